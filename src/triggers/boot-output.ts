import type { ChildProcess } from 'node:child_process'
import type { Readable } from 'node:stream'

/** What the new version writes until it serves: see spawned.ts. */
export function collect(child: ChildProcess): () => string {
  let text = ''
  const pipe = child.stdio[REPORT_FD] as Readable
  pipe.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  pipe.on('error', () => {}) // the child has closed its end: it serves
  return () => text
}

/** 'exit' may come before the last of what was written; a grandchild may hold the other end for ever. */
export async function allRead(pipe: Readable): Promise<void> {
  if (pipe.closed) return
  const timer = setTimeout(() => pipe.destroy(), TERM_MS)
  await new Promise((resolve) => pipe.once('close', resolve))
  clearTimeout(timer)
}

/** Behind stdin, stdout and stderr. */
export const REPORT_FD = 3
const TERM_MS = 2_000
