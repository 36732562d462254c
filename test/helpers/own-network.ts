import { inNetworkOf, type Namespace, namespace } from '../native/namespace.js'
import { fixture, Line, ServerProcess, type Settings } from './process.js'

/** A network namespace for one test, where only `lo` is: repair mode and packet holds touch nothing of this machine. */
export class OwnNetwork {
  readonly #namespace: Namespace
  readonly #kind: 'root' | 'user'

  private constructor(namespace: Namespace, kind: 'root' | 'user') {
    this.#namespace = namespace
    this.#kind = kind
  }

  /** How to run node there. */
  get command(): readonly string[] {
    return [...this.enter, process.execPath]
  }

  /** In front of a program that is to run there. */
  get enter(): readonly string[] {
    return inNetworkOf(this.pid, this.#kind)
  }

  /** Another network namespace, which the user of this one may govern as well. */
  async neighbour(): Promise<OwnNetwork> {
    return new OwnNetwork(await namespace(this.#kind, this.enter), this.#kind)
  }

  static async make(kind: 'root' | 'user' = process.getuid?.() === 0 ? 'root' : 'user'): Promise<OwnNetwork> {
    return new OwnNetwork(await namespace(kind), kind)
  }

  /** Of a process there. */
  get pid(): number {
    return this.#namespace.pid
  }

  /** Runs a body there, with the addon at hand: see test/native/namespace-tools.ts. */
  get run(): Namespace['run'] {
    return this.#namespace.run
  }

  async line(program: string, settings: Settings = {}): Promise<Line> {
    return Line.empty(program, { ...settings, command: this.command, env: { TSUNAGI_ON_EXIT: 'snapshot', ...settings.env } })
  }

  /** A program of fixtures/ beside the servers of a line. */
  launch(program: string, { port, directory }: Line, mode: Record<string, unknown>): ServerProcess {
    const env = { ...process.env, PORT: String(port), HOST: '', MODE: JSON.stringify(mode), TSUNAGI_DIR: directory }
    return new ServerProcess(fixture(program), env, { command: this.command })
  }

  /** What is held, by ports and connections, and the longest that any of it has left. */
  async held(): Promise<{ ports: number[]; connections: number; leftMs: number }> {
    return this.run((tools) => {
      const { ports, portsLeftMs, tuples, tuplesLeftMs } = tools.native.holdList()
      return { ports: [...ports], connections: tuples.length / 36, leftMs: Math.max(0, ...portsLeftMs, ...tuplesLeftMs) }
    }, null)
  }

  /** Counts FINs and RSTs from now on, before any hold: `flags` gives what has come. */
  async watchFlags(): Promise<void> {
    await this.run((tools) => {
      ;(globalThis as Record<string, unknown>)['flags'] = tools.watchPackets()
    }, null)
  }

  async flags(): Promise<{ fin: number; rst: number }> {
    return this.run(() => (globalThis as unknown as { flags: () => { fin: number; rst: number } }).flags(), null)
  }

  /** From now on nothing that comes in for a port arrives: what is sent there is not acknowledged. */
  async dropIncoming(port: number): Promise<void> {
    await this.run((tools, { port }) => void tools.dropIncoming(port), { port })
  }

  async letIncoming(): Promise<void> {
    await this.run((tools) => void tools.shell('nft delete table inet lossy'), null)
  }

  async shell(script: string): Promise<string> {
    return this.run((tools, { script }) => tools.shell(script), { script })
  }
}
