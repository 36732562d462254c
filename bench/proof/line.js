import { spawn } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** A line of processes of one server, each started to take over from the one before. */
export class Line {
  /** The process that serves. */
  current
  /** Those that were started and have not ended. */
  running = new Set()
  faults = []
  #script
  #environment
  #sidePort
  #node

  constructor(script, { sidePort, environment, node = [] }) {
    this.#script = fileURLToPath(script)
    this.#environment = environment
    this.#sidePort = sidePort
    this.#node = node
  }

  /** Starts the program once more. Resolves when it serves and whoever served before has left; as it should with code 0, else it is in `faults`. */
  async reload(environment = {}) {
    const predecessor = this.current
    const successor = this.#start(environment)
    await within(START_TIMEOUT, successor.serving, `process ${successor.pid} did not take over`)
    this.current = successor
    if (predecessor === undefined) return successor
    const { code, signal, errors } = await within(START_TIMEOUT, predecessor.exited, `process ${predecessor.pid} did not leave`)
    if (code !== 0) this.faults.push(`process ${predecessor.pid} left with ${signal ?? `code ${code}`} ${errors}`.trim())
    return successor
  }

  /** What the serving process answers to one question. */
  ask(question) {
    return ask(this.#sidePort, question)
  }

  /** SIGKILL for everything that is left. */
  kill() {
    for (const { child } of this.running) child.kill('SIGKILL')
  }

  #start(environment) {
    const child = spawn(process.execPath, [...this.#node, this.#script], {
      env: { ...process.env, ...this.#environment, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const started = { child, pid: child.pid, reports: [] }
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      errors += text
      if (process.env.PROOF_VERBOSE) process.stderr.write(text)
    })
    this.running.add(started)
    started.exited = new Promise((resolve) => {
      child.on('close', (code, signal) => {
        this.running.delete(started)
        resolve({ code, signal, errors })
      })
    })
    started.serving = new Promise((resolve, reject) => {
      createInterface(child.stdout).on('line', (line) => {
        const { serving, report } = JSON.parse(line)
        if (report) started.reports.push(report)
        if (serving) resolve(started)
      })
      started.exited.then(({ code, signal }) => reject(new Error(`process ${child.pid} ended with ${signal ?? `code ${code}`}\n${errors}`)))
    })
    started.serving.catch(() => {})
    return started
  }
}

/** Says one word to the side port of the server, and hears one line of JSON. Rejects if anything but that happens. */
export function ask(port, question) {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(`${question}\n`))
    socket.setEncoding('utf8').on('data', (text) => {
      answer += text
      if (answer.endsWith('\n')) {
        resolve(JSON.parse(answer))
        socket.end()
      }
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`the connection to ask "${question}" was closed without an answer`)))
  })
}

/** Ports that nobody listens on. */
export async function freePorts(count) {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise((resolve) =>
          createServer().listen(0, '127.0.0.1', function serverOnListening() {
            resolve(this)
          }),
        ),
    ),
  )
  const ports = servers.map((server) => server.address().port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

export function within(ms, promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${ms / 1000} s`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

const START_TIMEOUT = 45_000
