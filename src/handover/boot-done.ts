import { realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

/**
 * Resolves once the main module has been evaluated, top-level await included. A CommonJS main says so itself; an ES module is imported once
 * more, which gives the same module and waits for it. Where neither can be told (`node -e`, a REPL) it resolves at once.
 *
 * @note lib/internal/modules/run_main.js: the entry point is the real path of argv[1], unless --preserve-symlinks-main is given.
 */
export async function bootDone(main = process.argv[1]): Promise<void> {
  if (main === undefined) return
  const require = createRequire(import.meta.url)
  // Under a supervisor's own main module, which has loaded an ES module, that one is what counts.
  if (require.main && (main === process.argv[1] || realPath(main) === realPath(require.main.filename))) {
    while (!require.main.loaded) await new Promise((resolve) => setImmediate(resolve))
    return
  }
  if (process.execArgv.some((argument) => ALTERS_MAIN.test(argument)) || ALTERS_MAIN.test(process.env['NODE_OPTIONS'] ?? '')) return
  let url: string
  try {
    url = pathToFileURL(realpathSync(require.resolve(main))).href
  } catch {
    return // argv[1] is not a file that Node would run
  }
  await import(url)
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

/** Options under which the entry point is another module than argv[1], or another instance of it. */
const ALTERS_MAIN =
  /(^|\s)(-e|--eval|-p|--print|-i|--interactive|--preserve-symlinks-main|--experimental-default-type|--loader|--experimental-loader|--test)\b/
