import { closeSync, writeSync } from 'node:fs'
import type { Env } from '../env.js'

/**
 * The other end of spawn.ts: this process was started by a reload. Until it serves, what it writes to stdout and stderr goes to whoever
 * asked for the reload as well, and so does the error that ends it. Nothing of that is left afterwards.
 *
 * @note src/node.cc calls uv_disable_stdio_inheritance() at start, which makes what Node inherits CLOEXEC: our own children do not get it.
 */
export function reportBoot({ environment }: Pick<Env, 'environment'>, owned: Promise<void>): void {
  const given = environment['TSUNAGI_REPORT_FD']
  if (given === undefined) return
  delete environment['TSUNAGI_REPORT_FD']
  const fd = Number(given)
  let left = MOST_BYTES
  const restore = [process.stdout, process.stderr].map((stream) => {
    const { write } = stream
    stream.write = function reportingWrite(this: typeof stream, chunk: string | Uint8Array, ...rest: never[]) {
      report(chunk)
      return Reflect.apply(write, this, [chunk, ...rest])
    } as typeof stream.write
    return () => {
      stream.write = write
    }
  })
  process.on('uncaughtExceptionMonitor', processOnUncaught)
  void owned.then(() => {
    for (const undo of restore) undo()
    process.off('uncaughtExceptionMonitor', processOnUncaught)
    closeSync(fd)
  })

  function processOnUncaught(error: unknown): void {
    report(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  }

  function report(chunk: string | Uint8Array): void {
    const bytes = Buffer.from(chunk as string).subarray(0, left)
    left -= bytes.length
    if (bytes.length === 0) return
    try {
      writeSync(fd, bytes)
    } catch {
      left = 0 // whoever asked has gone: there is nobody to tell, and the application's own writes go on
    }
  }
}

/** Less than a pipe holds (64 KiB, pipe(7)), so that writing never waits for a reader. */
const MOST_BYTES = 32 * 1024
