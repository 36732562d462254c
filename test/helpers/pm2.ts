import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { onTestFinished } from 'vitest'
import { freePort, type Told, temporaryDirectory } from './process.js'

/** One process as `pm2 jlist` has it. */
export interface Pm2Process {
  readonly pid: number
  readonly pm_id: number | string
  readonly pm2_env: { readonly status: string; readonly restart_time: number }
}

/** Options of a program, as in an ecosystem file. */
export interface Described {
  env?: Record<string, string>
  [option: string]: unknown
}

/** A real PM2 with a home and a daemon of its own, which is killed when the test is over. Apps run under register. */
export class Pm2 {
  readonly home = temporaryDirectory()
  readonly port: number
  readonly ecosystem = join(this.home, 'ecosystem.config.cjs')
  /** What the ecosystem file says of the programs. */
  described: Described = {}

  get #environment(): Record<string, string> {
    return { PORT: String(this.port), TSUNAGI_DIR: join(this.home, 'tsunagi') }
  }

  private constructor(port: number) {
    this.port = port
  }

  /** Starts the programs that this describes, as in an ecosystem file; `name`, `cwd`, register and the port are given. */
  static async start(app: Described & { script: string }): Promise<Pm2> {
    const pm2 = await Pm2.empty()
    pm2.describe(app)
    await pm2.run('start', pm2.ecosystem)
    return pm2
  }

  /** One that starts nothing yet. */
  static async empty(): Promise<Pm2> {
    const pm2 = new Pm2(await freePort())
    onTestFinished(async () => void (await pm2.run('kill')))
    return pm2
  }

  /** Writes the ecosystem file; what runs changes at the next start or reload of that file. */
  describe(described: Described): void {
    this.described = described
    const { env, ...app } = described
    const apps = [{ name: 'app', cwd: ROOT, node_args: `--import ${REGISTER}`, ...app, env: { ...this.#environment, ...env } }]
    writeFileSync(this.ecosystem, `module.exports = ${JSON.stringify({ apps })}`)
  }

  /** One `pm2` command; resolves with what it prints when it ends, rejects when it fails. */
  async run(...args: string[]): Promise<string> {
    const env = { ...process.env, ...this.#environment, PM2_HOME: this.home, PM2_DISCRETE_MODE: '1', PM2_DISABLE_VERSION_CHECK: '1' }
    const { stdout } = await promisify(execFile)(process.execPath, [PM2, ...args], { env, maxBuffer: 2 ** 26 })
    return stdout
  }

  async list(): Promise<Pm2Process[]> {
    const printed = await this.run('jlist')
    return JSON.parse(printed.slice(printed.indexOf('['))) as Pm2Process[]
  }

  /** What the programs tell: in cluster mode their standard output is the daemon's. */
  get told(): Told[] {
    return this.#lines('pm2.log').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Told] : []))
  }

  /** What the programs have printed so far. */
  get printed(): string {
    return ['logs/app-out-0.log', 'logs/app-out-1.log', 'logs/app-out.log'].flatMap((file) => this.#lines(file)).join('\n')
  }

  /** What tsunagi, and the programs, have said on stderr so far. */
  get said(): string {
    return ['logs/app-error-0.log', 'logs/app-error-1.log', 'logs/app-error.log'].flatMap((file) => this.#lines(file)).join('\n')
  }

  /** Resolves once `look` gives something: PM2 tells nobody what it does. */
  async until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
    for (const end = Date.now() + 40_000; Date.now() < end; await delay(20)) {
      const found = await look()
      if (found !== undefined) return found
    }
    throw new Error(`${what} did not come. PM2's log:\n${this.#lines('pm2.log').join('\n')}\nand the programs':\n${this.said}`)
  }

  #lines(file: string): string[] {
    try {
      return readFileSync(join(this.home, file), 'utf8').split('\n').filter(Boolean)
    } catch {
      return [] // nobody has written to it yet
    }
  }
}

/** PM2 stops an old worker after this many milliseconds, and the new ones of a busy machine take long to boot: its 3 s are not what is tested here. */
export const PATIENCE = 20_000

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const REGISTER = join(ROOT, 'dist/register.js')
const PM2 = join(ROOT, 'node_modules/pm2/bin/pm2')
