import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { inNetworkOf } from '../native/namespace.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const HELPER = join(ROOT, 'prebuilds', `${process.platform}-${process.arch}`, 'tsunagi-repair')
const NOBODY = 65534
const isRoot = process.getuid?.() === 0

/** tsunagi-repair in somebody's network namespace, and how to run a server there that has no right at all. It ends with the test. */
export class RepairHelper {
  /** As whom server and helper run: in a user namespace there is only its root. */
  static readonly uid = isRoot ? NOBODY : 0
  readonly path: string
  process!: ChildProcess
  readonly #enter: readonly string[]
  readonly #options: readonly string[]
  readonly #folder: string

  private constructor(namespacePid: number, options: readonly string[]) {
    this.#folder = mkdtempSync(join(tmpdir(), 'tsunagi-helper-'))
    onTestFinished(() => rmSync(this.#folder, { recursive: true, force: true }))
    this.own(this.#folder)
    this.path = join(this.#folder, 'socket')
    this.#enter = inNetworkOf(namespacePid, isRoot ? 'root' : 'user')
    this.#options = options
  }

  static async start(namespacePid: number, ...options: string[]): Promise<RepairHelper> {
    const helper = new RepairHelper(namespacePid, options)
    await helper.startAgain()
    return helper
  }

  /** At the same path. */
  async startAgain(): Promise<void> {
    this.process = this.#spawn([...this.#enter, HELPER, this.path, '--uid', String(RepairHelper.uid), ...this.#options])
    await once(createInterface({ input: this.process.stdout as NodeJS.ReadableStream }), 'line')
  }

  /** In front of a program: in the namespace, as the helper's user, without any capability. */
  get withoutRights(): readonly string[] {
    const user = isRoot ? [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : []
    return [...this.#enter, 'setpriv', '--bounding-set=-all', '--inh-caps=-all', ...user]
  }

  run(...command: string[]): ChildProcess {
    return this.#spawn([...this.withoutRights, ...command])
  }

  /** A folder that is the server's alone. */
  own(folder: string): void {
    if (isRoot) chownSync(folder, NOBODY, NOBODY)
    chmodSync(folder, 0o700)
  }

  #spawn([program = '', ...args]: readonly string[]): ChildProcess {
    const child = spawn(program, args, { env: { ...process.env, TSUNAGI_HELPER: this.path, HOME: this.#folder, TMPDIR: this.#folder } })
    child.stderr.pipe(process.stderr)
    onTestFinished(() => void child.kill('SIGKILL'))
    return child
  }
}
