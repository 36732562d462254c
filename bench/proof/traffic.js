import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Processes full of clients: the ping-pong in one, the streams in another. */
export class Traffic {
  #groups = new Map()

  constructor(specs) {
    for (const [name, own] of Object.entries(specs)) {
      const child = fork(fileURLToPath(new URL('./clients.js', import.meta.url)), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
      this.#groups.set(name, { child, specs: own })
    }
  }

  async start(port) {
    await Promise.all([...this.#groups.values()].map(({ child, specs }) => tell(child, { order: 'start', port, specs })))
  }

  /** The answers of all groups to one order. */
  async tellAll(order) {
    return Promise.all([...this.#groups.values()].map(({ child }) => tell(child, order)))
  }

  async sum(order) {
    return (await this.tellAll({ order })).reduce((a, b) => a + b, 0)
  }

  kill() {
    for (const { child } of this.#groups.values()) child.kill('SIGKILL')
  }
}

function tell(child, message) {
  return new Promise((resolve, reject) => {
    const onMessage = ({ done, result }) => {
      if (done !== message.order) return
      child.off('message', onMessage)
      child.off('exit', onExit)
      resolve(result)
    }
    const onExit = () => reject(new Error(`a process of clients ended at the order "${message.order}"`))
    child.on('message', onMessage)
    child.once('exit', onExit)
    child.send(message)
  })
}
