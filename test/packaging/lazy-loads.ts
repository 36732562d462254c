import ts from 'typescript'

/**
 * Every place in a JavaScript file where a module or a file could be loaded later than when the file itself is: `import()` anywhere,
 * and `require` inside a function, unless it names a module that is part of Node. All of a late file counts as inside one.
 */
export function lazyLoads(name: string, text: string, isLate = false): string[] {
  const file = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true, ts.ScriptKind.JS)
  const found: string[] = []
  visit(file, isLate)
  return found

  function visit(node: ts.Node, insideFunction: boolean): void {
    if (ts.isCallExpression(node) && isLoad(node, insideFunction)) {
      const { line } = file.getLineAndCharacterOfPosition(node.getStart())
      found.push(`${name}:${line + 1}: ${node.getText()}`)
    }
    node.forEachChild((child) => visit(child, insideFunction || ts.isFunctionLike(node)))
  }
}

function isLoad(call: ts.CallExpression, insideFunction: boolean): boolean {
  if (call.expression.kind === ts.SyntaxKind.ImportKeyword) return true
  if (!insideFunction || !REQUIRE.test(call.expression.getText())) return false
  const [specifier] = call.arguments
  return !(specifier && ts.isStringLiteral(specifier) && specifier.text.startsWith('node:'))
}

/** `require` under the names that esbuild gives it, and what `createRequire(…)` returns, called at once. */
const REQUIRE = /^(__)?require\d*$|createRequire\)?\([^()]*\)$/
