import { ask } from './line.js'

/** New connections all the time, during reloads as well: each must be accepted and answered. */
export class Newcomers {
  answered = 0
  failed = []
  #stopped = false
  #running

  constructor(port) {
    this.#running = this.#run(port)
  }

  async stop() {
    this.#stopped = true
    await this.#running
  }

  async #run(port) {
    while (!this.#stopped) {
      try {
        await ask(port, 'hello')
        this.answered++
      } catch (error) {
        this.failed.push(error.code ?? error.message)
      }
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}
