import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import { temporaryDirectory } from '../helpers/process.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** A program in the network of the test, with what it has printed. */
class Program {
  printed = ''
  readonly child: ChildProcess
  readonly exited: Promise<unknown>

  constructor(network: OwnNetwork, command: string[], env: NodeJS.ProcessEnv) {
    const [nsenter = '', ...rest] = network.command.slice(0, -1)
    // A group of its own, as a shell makes one for each command.
    this.child = spawn(nsenter, [...rest, ...command], { cwd: ROOT, env: { ...process.env, ...env }, detached: true })
    for (const stream of [this.child.stdout, this.child.stderr]) stream?.on('data', (text) => (this.printed += text))
    this.exited = once(this.child, 'exit')
    onTestFinished(async () => {
      this.signal('SIGKILL')
      await this.exited
    })
  }

  /** To all of the group, as a terminal sends Ctrl-C: npm passes it on, so that the server gets it twice. */
  signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-(this.child.pid as number), signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }

  says(line: string): void {
    this.child.stdin?.write(`${line}\n`)
  }

  async untilPrinted(text: string): Promise<void> {
    while (!this.printed.includes(text)) {
      if (this.child.exitCode !== null) throw new Error(`it ended before it printed ${JSON.stringify(text)}:\n${this.printed}`)
      await delay(10)
    }
  }
}

describePrivileged('net-namespace', 'TSUNAGI_ON_EXIT=snapshot npm start', () => {
  test('Ctrl-C, five seconds of nothing, and again: both nc go on, and what was said meanwhile comes once', async () => {
    const network = await OwnNetwork.make()
    const env = { TSUNAGI_ON_EXIT: 'snapshot', TSUNAGI_DIR: temporaryDirectory() }
    const first = new Program(network, ['npm', 'start'], env)
    await first.untilPrinted('generation 1')
    const [alice, bob] = [new Program(network, ['nc', '127.0.0.1', '7000'], {}), new Program(network, ['nc', '127.0.0.1', '7000'], {})]
    alice.says('alice')
    await alice.untilPrinted('you are in lobby')
    bob.says('bob')
    await bob.untilPrinted('with alice')

    first.signal('SIGINT')
    await first.exited
    for (let second = 1; second <= 5; second++) {
      await delay(1_000)
      bob.says(`in second ${second} of the gap`)
    }
    expect(alice.printed).not.toContain('of the gap')

    const next = new Program(network, ['npm', 'start'], env)
    await next.untilPrinted('generation 2')
    alice.says('I am still here')
    await bob.untilPrinted('alice: I am still here\n')
    bob.says('so am I')
    await alice.untilPrinted('bob: so am I\n')
    expect(alice.printed.split('\n').filter((line) => line.startsWith('bob:'))).toEqual([
      ...[1, 2, 3, 4, 5].map((second) => `bob: in second ${second} of the gap`),
      'bob: so am I',
    ])
    expect([alice.child.exitCode, bob.child.exitCode]).toEqual([null, null])
    expect(await network.held()).toMatchObject({ leftMs: 0 })
  })
})
