import { once } from 'node:events'
import { connect, type NetConnectOpts } from 'node:net'
import { onTestFinished } from 'vitest'
import { fixture, Line, type ServerProcess, type Settings, type Told } from './process.js'

/** How a program that knows nothing of tsunagi gets it. */
export const REGISTER = ['--import', 'tsunagi/register']

/** What the process that takes over says on stderr: a program that knows nothing of tsunagi has no other sign. */
export const TOOK_OVER = /took (\d+) connections? over from pid/
export const HANDED_OVER = /handed (\d+) connections? over to pid/

/** A line of a program of fixtures/plain, or at an absolute path, under register; its first process listens. */
export async function startPlain(program: string, settings: Settings = {}): Promise<Line> {
  const line = await Line.empty(program.startsWith('/') ? program : fixture(`plain/${program}`), { node: REGISTER, ...settings })
  await line.launch().until('server listening')
  return line
}

/** Starts the program once more; resolves when the new process has taken over and the old one has left with exit code 0. */
export async function nextPlain(line: Line, settings: Settings = {}): Promise<ServerProcess> {
  const predecessor = line.current
  const successor = line.launch(settings)
  await successor.untilSaid(TOOK_OVER)
  const { code, signal } = await predecessor.exited
  if (code !== 0) throw new Error(`the predecessor left with ${code ?? signal}: ${predecessor.stderr}`)
  return successor
}

/** Connects, asks for the pid of the process that serves, and leaves. */
export async function whoServes(at: number | string): Promise<number> {
  const options = typeof at === 'number' ? { port: at, host: '127.0.0.1' } : { path: at.replace(/^@/, '\0') }
  const socket = connect(options as NetConnectOpts)
  await once(socket, 'connect')
  socket.write('who')
  const [answer] = await once(socket, 'data')
  socket.end()
  await once(socket, 'close')
  return Number(String(answer))
}

/** What a successor tells that a process has started by itself: it writes to the same pipes. It is killed when the test is over. */
export async function untilToldByAnother(
  starter: ServerProcess,
  event: string,
  fits: (told: Told) => boolean = () => true,
): Promise<Told & { pid: number }> {
  const told = (await starter.until(event, (line) => line['pid'] !== starter.pid && fits(line))) as Told & { pid: number }
  onTestFinished(async () => {
    endOf(told.pid)
    if (starter.child.exitCode !== null) await starter.exited // or its own end would be awaited as if it still ran
  })
  return told
}

function endOf(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it has ended by itself
  }
}

/** Resolves when the process itself has ended: `exited` waits for its pipes too, which a successor of its own has inherited. */
export async function hasEnded({ child }: ServerProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  return { code: child.exitCode, signal: child.signalCode }
}
