/**
 * What the application has written to a text/event-stream, as far as the next process has to know: the id that the client would ask to go on from, and
 * whether an event is half written. @note https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class EventStream {
  /** Bytes as latin1, as header values are; `undefined`: no event had an id. */
  lastId: string | undefined
  /** Of the event that is being written. */
  #id: string | undefined
  #isWithinEvent = false
  /** The line that is not complete. */
  #line = ''
  #endedWithReturn = false

  constructor(lastId?: string) {
    this.lastId = lastId
  }

  get isBetweenEvents(): boolean {
    return !this.#isWithinEvent && this.#line === ''
  }

  /** In the order of writing; strings are `encoding`, as for a stream. */
  note(chunk: unknown, encoding?: unknown): void {
    const text = asLatin1(chunk, encoding)
    if (text === '') return
    const fresh = this.#endedWithReturn && text.startsWith('\n') ? text.slice(1) : text
    this.#endedWithReturn = text.endsWith('\r')
    const lines = fresh.split(/\r\n|\n|\r/)
    for (let i = 0; i < lines.length - 1; i++) this.#take(this.#line + lines[i])
    this.#line = (this.#line + lines.at(-1)).slice(0, MAX_LINE)
  }

  #take(line: string): void {
    this.#line = ''
    if (line === '') {
      if (this.#id !== undefined) this.lastId = this.#id
      this.#id = undefined
      this.#isWithinEvent = false
      return
    }
    const [field, value = ''] = line.split(/:(.*)/s) as [string, string?]
    if (field === 'id' && !value.includes('\0')) this.#id = value.replace(/^ /, '')
    // A comment or a retry time stands for itself: it may be followed by anything.
    if (field === 'id' || field === 'data' || field === 'event') this.#isWithinEvent = true
  }
}

/** Bytes as the characters that header values are made of; `encoding` as for a stream. */
export function asLatin1(chunk: unknown, encoding: unknown): string {
  if (typeof chunk === 'string')
    return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8').toString('latin1')
  return chunk instanceof Uint8Array ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString('latin1') : ''
}

/** What is longer is no id that anybody sends back. */
const MAX_LINE = 4096
