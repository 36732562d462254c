import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/**
 * What `tsunagi run` and the process it has started tell each other, as JSON lines on a socket pair. A reload asked of the process is carried out by
 * the supervisor, since the new version must be its child: both processes then live side by side, and neither is the other's parent.
 */
export type ToSupervisor =
  /** It serves; `took`: it has taken over, so that its predecessor leaves by itself. */
  | { is: 'serving'; generation: number; took: boolean }
  | { is: 'reload'; token: string; timeout: number }
  /** Answer to 'give-up'. */
  | { is: 'given-up'; committed: boolean }

export type ToSupervised =
  /** The new version takes too long: refuse it, unless connections are its own. */
  | { is: 'give-up' }
  /** A reload that was asked for has failed. */
  | { is: 'failed'; token: string; reason: string; output: string }

/** One end of the conversation. Idle, it does not hold the process open; the other end's death is told by `onClose`. */
export class Supervision<Out, In> {
  readonly #stream: Duplex
  #unfinished = ''

  constructor(stream: Duplex, onMessage: (message: In) => void, onClose: () => void) {
    this.#stream = stream
    stream.on('error', () => {}) // 'close' follows
    stream.on('close', onClose)
    stream.on('data', (chunk: Buffer) => {
      const lines = (this.#unfinished + chunk.toString()).split('\n')
      this.#unfinished = lines.pop() ?? ''
      for (const line of lines) onMessage(JSON.parse(line) as In)
    })
    if (stream instanceof Socket) stream.unref()
  }

  tell(message: Out): void {
    if (!this.#stream.destroyed) this.#stream.write(`${JSON.stringify(message)}\n`)
  }

  close(): void {
    this.#stream.destroy()
  }
}
