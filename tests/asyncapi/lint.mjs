// Lints an AsyncAPI document, with the JSON Schemas that it refers to, by AsyncAPI's own parser and its rules.
//   node tests/asyncapi/lint.mjs shared/protocol/schemas/asyncapi.json
// The parser is the one that tests/test-env.sh installs.
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const installed = fileURLToPath(new URL("../../.crewfleet/test-asyncapi/", import.meta.url));
const { Parser, fromFile } = createRequire(installed)("@asyncapi/parser");

const file = process.argv[2];
const { document, diagnostics } = await fromFile(new Parser(), file).parse();
// 0 is an error, 1 a warning; below that there is only the hint that 3.1 exists, which fewer tools read than 3.0.
const wrong = diagnostics.filter(({ severity }) => severity <= 1);
for (const { code, path, message } of wrong) console.error(`${file}: ${path.join(".")}: ${message} (${code})`);
if (wrong.length > 0 || document === undefined) process.exit(1);
console.error(`${file}: ${document.channels().length} channels, ${document.operations().length} operations`);
