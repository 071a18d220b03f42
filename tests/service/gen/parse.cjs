// Reads one JSON text a line; answers with what TypeScript finds wrong with it, and its names.
const ts = require(process.argv[2]);
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const file = ts.createSourceFile("a.ts", JSON.parse(line), ts.ScriptTarget.ES2022, true);
    const names = new Set();
    const visit = (node) => {
      if (ts.isIdentifier(node)) names.add(node.text);
      ts.forEachChild(node, visit);
    };
    visit(file);
    const wrong = file.parseDiagnostics.map((one) => ts.flattenDiagnosticMessageText(one.messageText, " "));
    console.log(JSON.stringify({ wrong, names: [...names] }));
  });
