/** Loaded before each test file: property tests draw the same cases each time, so that a run is the same everywhere. New cases are the fuzz targets' work. */
import fc from "fast-check";

fc.configureGlobal({ seed: 20261123 });
