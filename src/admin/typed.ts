/** Messages that the admin pages make themselves. */

export interface Typed {
  readonly $typeName: string;
}

export function typed(typeName: string, fields: object): Typed {
  return { $typeName: typeName, ...fields };
}
