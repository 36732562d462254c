import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex, Readable } from 'node:stream'
import { allRead, collect, REPORT_FD } from '../triggers/boot-output.js'
import { endChild } from '../triggers/launch.js'
import { Supervision, type ToSupervised, type ToSupervisor } from '../triggers/supervision.js'

/** What every generation of the program is started with. */
export interface Program {
  readonly args: readonly string[]
  /** As the shell has it: the symbolic link of a release is another one later. */
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
}

/** How a process ended. */
export interface Ending {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** One process of the program, from its start to its end. */
export class Generation {
  readonly child: ChildProcess
  readonly ended: Promise<Ending>
  #ending: Ending | undefined
  #line: Supervision<ToSupervised, ToSupervisor> | undefined
  readonly #output: () => string

  constructor(program: Program, token: string, onMessage: (message: ToSupervisor) => void) {
    const environment = { ...program.environment, TSUNAGI_TOKEN: token, TSUNAGI_REPORT_FD: '3', TSUNAGI_SUPERVISOR_FD: '4' }
    this.child = spawn(process.execPath, program.args, {
      cwd: program.cwd,
      env: environment,
      stdio: ['inherit', 'inherit', 'inherit', 'pipe', 'pipe'],
    })
    this.#output = collect(this.child)
    this.ended = new Promise((resolve) => {
      const settle = (ending: Ending) => {
        this.#ending = ending
        this.#line?.close()
        resolve(ending)
      }
      this.child.once('exit', (code, signal) => settle({ code, signal }))
      this.child.once('error', () => settle({ code: EXIT_CANNOT_START, signal: null }))
    })
    this.#line = new Supervision(this.child.stdio[4] as Duplex, onMessage, () => {})
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  /** How it ended; `undefined` while it runs. */
  get ending(): Ending | undefined {
    return this.#ending
  }

  tell(message: ToSupervised): void {
    this.#line?.tell(message)
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.#ending) this.child.kill(signal)
  }

  /** Ends it, politely at first; resolves with what it had printed before it served. */
  async end(): Promise<string> {
    await endChild(this.child)
    await allRead(this.child.stdio[REPORT_FD] as Readable)
    return this.#output()
  }
}

/** @note what a shell says for a command that it cannot run (POSIX, 2.8.2). */
const EXIT_CANNOT_START = 126
