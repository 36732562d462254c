import { type FSWatcher, readdirSync, watch } from 'node:fs'
import { extname, join } from 'node:path'

/** Calls back when a source file below `root` has changed, once for what changes together. Packages and hidden folders are left out. */
export function watchFiles(root: string, onChange: (path: string) => void): void {
  const watchers = new Map<string, FSWatcher>()
  let timer: NodeJS.Timeout | undefined
  add(root)

  function add(folder: string): void {
    if (watchers.has(folder)) return
    const watcher = watch(folder, (_, name) => name && folderOnChange(folder, name))
    watcher.on('error', () => forget(folder)) // it was removed
    watchers.set(folder, watcher)
    for (const inner of foldersIn(folder)) add(inner)
  }

  function forget(folder: string): void {
    watchers.get(folder)?.close()
    watchers.delete(folder)
  }

  function folderOnChange(folder: string, name: string): void {
    if (foldersIn(folder).includes(join(folder, name))) return add(join(folder, name))
    if (!SOURCES.has(extname(name))) return
    clearTimeout(timer)
    timer = setTimeout(onChange, TOGETHER_MS, join(folder, name))
  }
}

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && entry.name !== 'node_modules')
      .map(({ name }) => join(folder, name))
  } catch {
    return [] // removed meanwhile
  }
}

const SOURCES = new Set(['.js', '.mjs', '.cjs', '.ts', '.mts', '.cts', '.json', '.node'])
/** An editor writes a file in several steps, a checkout many files, ms. */
const TOGETHER_MS = 200
