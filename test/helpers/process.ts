import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

/** One line of what a fixture told: see fixtures/harness.mjs. */
export type Told = { event: string } & Record<string, unknown>

export interface Settings {
  /** What the fixture finds in `mode`. */
  mode?: Record<string, unknown>
  /** Where it listens; without it on every address, IPv6 and IPv4. */
  host?: string
  env?: NodeJS.ProcessEnv
  /** Options of node. */
  node?: string[]
  /** Arguments of the program. */
  args?: string[]
  /** What runs the program: another version of node, or `prlimit … node`. This process's node without it. */
  command?: readonly string[]
  spawn?: SpawnOptions
}

/** A server in a process of its own, killed when the test is over. */
export class ServerProcess {
  readonly told: Told[] = []
  readonly child: ChildProcess
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  stderr = ''
  readonly #news = new EventEmitter().setMaxListeners(0)
  #hasExited = false

  constructor(
    program: string,
    env: NodeJS.ProcessEnv,
    { node = [], args = [], command = [process.execPath], spawn: options = {} }: Settings = {},
  ) {
    const [file = process.execPath, ...rest] = [...command, ...node, program, ...args].filter(Boolean)
    this.child = spawn(file, rest, { ...options, env, stdio: ['pipe', 'pipe', 'pipe'] })
    this.child.stdin?.on('error', () => {}) // told something after its end
    this.child.stderr?.on('data', (text) => {
      this.stderr += text
      this.#news.emit('news')
    })
    let unfinished = ''
    this.child.stdout?.on('data', (text) => {
      const lines = (unfinished + text).split('\n')
      unfinished = lines.pop() ?? ''
      this.told.push(...lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Told)) // a supervisor says things as well
      this.#news.emit('news')
    })
    // 'close' comes after the last of its output was read, 'exit' may come before.
    this.exited = once(this.child, 'close').then(([code, signal]) => {
      this.#hasExited = true
      this.#news.emit('news')
      return { code, signal }
    })
    onTestFinished(async () => {
      this.child.kill('SIGKILL') // it may have ended, and a process that it has started may hold its output
      await this.exited
    })
  }

  get pid(): number {
    return this.child.pid as number
  }

  /** What it told under this name so far. */
  all(event: string): Told[] {
    return this.told.filter((told) => told.event === event)
  }

  /** The first thing it tells, or has told, that is of this name and fits; rejects if it ends before. */
  async until(event: string, fits: (told: Told) => boolean = () => true): Promise<Told> {
    return this.#when(`told "${event}"`, () => this.told.find((told) => told.event === event && fits(told)))
  }

  /** Resolves once its standard error holds this. */
  async untilSaid(text: string | RegExp): Promise<string> {
    return this.#when(`said ${text}`, () => (this.stderr.match(text) ? this.stderr : undefined))
  }

  async untilStopped(): Promise<void> {
    while (stateOf(this.pid) !== 'T') {
      if (this.#hasExited) throw this.#failure('was stopped')
      await delay(1)
    }
  }

  /** Says a word that the fixture listens for. */
  tell(word: string): void {
    this.child.stdin?.write(`${word}\n`)
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    process.kill(this.pid, signal)
  }

  async #when<T>(what: string, look: () => T | undefined): Promise<T> {
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      if (this.#hasExited) throw this.#failure(what)
      await once(this.#news, 'news')
    }
  }

  #failure(what: string): Error {
    const { exitCode, signalCode } = this.child
    const told = this.told.map((line) => JSON.stringify(line)).join('\n')
    return new Error(
      `process ${this.pid} ended (${exitCode ?? signalCode}) before it ${what}. It told:\n${told}\nand said:\n${this.stderr}`,
    )
  }
}

/** A port and a control directory that no other test uses, and the programs that run there one after the other. */
export class Line {
  readonly directory: string
  readonly port: number
  readonly generations: ServerProcess[] = []
  readonly program: string
  readonly settings: Settings

  private constructor(program: string, settings: Settings, directory: string, port: number) {
    this.program = program
    this.settings = settings
    this.directory = directory
    this.port = port
  }

  /** A line without a process: `launch` makes one. `program` is a file of fixtures/, or a path. */
  static async empty(program: string, settings: Settings = {}): Promise<Line> {
    const directory = temporaryDirectory()
    return new Line(program, settings, directory, await freePort())
  }

  /** A line whose first process serves. */
  static async start(program: string, settings: Settings = {}): Promise<Line> {
    const line = await Line.empty(program, settings)
    await line.launch().until('serving')
    return line
  }

  get current(): ServerProcess {
    return this.generations.at(-1) as ServerProcess
  }

  /** What all of them said on standard error: what a failing test shows, since a failure may have its cause in any of them. */
  get said(): string {
    return this.generations.map(({ pid, stderr }) => `${pid}: ${stderr}`).join('\n')
  }

  /** Starts the program once more and waits for nothing. */
  launch(settings: Settings = {}, program = this.program): ServerProcess {
    const { mode, host, env, ...rest } = { ...this.settings, ...settings }
    const environment = {
      ...process.env,
      PORT: String(this.port),
      HOST: host ?? '',
      MODE: JSON.stringify(mode ?? {}),
      TSUNAGI_DIR: this.directory,
      ...env,
    }
    const path = program.includes('/') ? program : fixture(program)
    const started = new ServerProcess(path, environment, { ...this.settings, ...rest })
    this.generations.push(started)
    return started
  }

  /** Starts the program once more; resolves when the new process serves and the old one has left with exit code 0. */
  async next(settings: Settings = {}): Promise<ServerProcess> {
    const predecessor = this.current
    const successor = await this.nextWhileDraining(settings)
    const { code, signal } = await predecessor.exited
    if (code !== 0) throw new Error(`the predecessor left with ${code ?? signal}: ${predecessor.stderr}`)
    return successor
  }

  /** Like `next`, where the old process has something left to do. */
  async nextWhileDraining(settings: Settings = {}): Promise<ServerProcess> {
    const successor = this.launch(settings)
    await successor.until('serving')
    await successor.until('resumed')
    return successor
  }
}

export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))
}

/** A directory that is gone when the test is over. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'tsunagi-e2e-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/**
 * A port that the kernel says is free, from below its range for outgoing connections: a client of another test that runs
 * at the same time could be given any port of that range between this look and the server's bind.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000)
    const server = createServer()
    server.listen(port)
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    server.close()
    if (!isFree) continue
    await once(server, 'close')
    return port
  }
}

/** Ends what a process has started, which would live on without it; some of it may just be ending by itself. */
export function killChildrenOf(pid: number): void {
  const path = `/proc/${pid}/task/${pid}/children`
  const children = existsSync(path) ? readFileSync(path, 'utf8').split(' ').filter(Boolean).map(Number) : []
  for (const child of children) {
    try {
      process.kill(child, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** The state letter of a process, as in ps(1); undefined once it is gone. */
export function stateOf(pid: number): string | undefined {
  if (!existsSync(`/proc/${pid}/stat`)) return undefined
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return stat.slice(stat.lastIndexOf(')') + 2)[0]
}

/** Those that a process has now. */
export function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((each) => {
      try {
        const stat = readFileSync(`/proc/${each}/stat`, 'latin1')
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid
      } catch {
        return false // gone meanwhile
      }
    })
}

/** Asks again and again, where nobody tells. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await delay(20)
}
