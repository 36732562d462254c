import { Client } from './client.js'

/** A client that says numbered lines all the time, some on the way at once, and checks that what comes back is them: up to the end of its connection nothing else. */
export class NumberedTalk {
  readonly client: Client
  #isOver = false
  #error: Error | undefined
  #answers = 0
  #waiting: (() => void)[] = []

  private constructor(client: Client) {
    this.client = client
    void this.#talk()
  }

  static async connect(port: number): Promise<NumberedTalk> {
    return new NumberedTalk(await Client.connect(port))
  }

  /** Its connection has ended. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** What came that was not the next thing it had said; `undefined`: nothing. */
  get wrong(): Error | undefined {
    return this.#error
  }

  /** Resolves when it has been answered once more, or its connection is over. */
  async goesOn(): Promise<void> {
    const before = this.#answers
    while (!this.#isOver && this.#answers === before) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  async #talk(): Promise<void> {
    for (let first = 0; first < AHEAD; first++) this.client.send(lineOf(first))
    for (let number = 0; !this.#isOver; number++) {
      await this.#hear(number)
      if (!this.#isOver) this.client.send(lineOf(number + AHEAD))
      this.#answers++
      this.#wake()
      if (number % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  async #hear(number: number): Promise<void> {
    try {
      await this.client.expect(lineOf(number))
    } catch (error) {
      if (this.client.seen.length === 0) this.#error = error as Error
      const left = this.client.surplus.toString()
      if (!lineOf(number).startsWith(left)) this.#error = new Error(`${JSON.stringify(left)} came where line ${number} was due`)
      this.#isOver = true
      this.client.socket.destroy()
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

const lineOf = (number: number): string => `line ${number} ${'x'.repeat(number % 80)}\n`
const AHEAD = 3
