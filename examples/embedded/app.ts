/** A proxy inside a Node program: start, ask it something, count, reload, stop. */
import { start } from "outrider";

const proxy = await start({ configPath: `${import.meta.dirname}/envoy.yaml` });
const url = `http://${proxy.address("main")}/`;
console.log(await (await fetch(url)).text());
console.log("requests:", proxy.stats().get("http.main.downstream_rq_total"));
console.log(await proxy.reload());
await proxy.stop();
