import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { Client } from '../helpers/client.js'
import { namesOfKeepers, pidOfKeeper, untilGone } from '../helpers/keeper.js'
import { temporaryDirectory } from '../helpers/process.js'

test('a keeper ends everything as soon as it is clear that the supervisor starts nobody', async () => {
  const { client, server } = await left()
  server.stdin?.end()
  await client.expectEnd()
  expect(client.seen).toEqual(['end'])
})

test('a keeper waits while a new child of the supervisor lives', async () => {
  const { client, server, supervisor } = await left()
  await say(supervisor, 'start')
  server.stdin?.end()
  await once(server, 'exit')
  await delay(5 * QUIET_MS)
  expect(client.seen).toEqual([])
  await say(supervisor, 'end')
  await client.expectEnd()
})

test('a keeper holds for its whole time when the supervisor has died: it may be started again, and start everything again', async () => {
  const { client, server, supervisor, directory } = await left()
  supervisor.kill('SIGKILL')
  await once(supervisor, 'exit')
  server.stdin?.end()
  await once(server, 'exit')
  await delay(5 * QUIET_MS)
  expect(client.seen).toEqual([])
  process.kill(pidOfKeeper(directory), 'SIGTERM')
  await client.expectEnd()
})

/** A supervisor, and a server that has left its connection with a keeper and lives on. */
async function left() {
  const directory = temporaryDirectory()
  const supervisor = start('bash', ['-c', SUPERVISOR])
  const server = start(process.execPath, ['--import', 'tsx', FIXTURE, directory, String(supervisor.pid), String(QUIET_MS)])
  const lines = linesOf(server)
  const client = await Client.connect(Number((await lines.next()).value))
  expect((await lines.next()).value).toBe('left')
  const keeper = pidOfKeeper(directory)
  onTestFinished(async () => {
    await untilGone(keeper)
    expect(namesOfKeepers(directory)).toEqual([])
  })
  return { directory, supervisor, server, client }
}

function start(command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

function linesOf(child: ChildProcess): AsyncIterator<string> {
  return createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
}

async function say(supervisor: ChildProcess, word: string): Promise<void> {
  supervisor.stdin?.write(`${word}\n`)
  await once(supervisor.stdout as NodeJS.ReadableStream, 'data')
}

const QUIET_MS = 300
const FIXTURE = fileURLToPath(new URL('../fixtures/leaves-to-keeper.ts', import.meta.url))
/** Starts a child when it is told so, and ends it. */
const SUPERVISOR = `while read -r word; do
  case $word in
    start) sleep 1000 > /dev/null & ;;
    end) kill $!; wait $! ;;
  esac
  echo done
done`
