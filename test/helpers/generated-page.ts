import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'

/** Compares a page of docs/ with what the tests have just found; `npm run docs` (TSUNAGI_DOCS=write) writes it instead. */
export function expectPage(name: string, text: string): void {
  const path = fileURLToPath(new URL(`../../docs/${name}`, import.meta.url))
  if (process.env['TSUNAGI_DOCS'] === 'write') {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
  }
  expect(readFileSync(path, 'utf8'), `docs/${name} is not what the tests find: run \`npm run docs\``).toBe(text)
}

/** A table in Markdown. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
