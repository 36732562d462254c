import type { Native } from './native/native.js'

/** The contact with the operating system, in one small object, so that tests can stand in for it. */
export interface Env {
  readonly native: Native
  readonly environment: NodeJS.ProcessEnv
  /** Milliseconds that only go forward. */
  now(): number
  /** A named point at which a test lets this process die, stop or fail; otherwise nothing. */
  fault(point: FaultPoint): void
  log(line: string): void
}

/** Where `TSUNAGI_FAULT=<point>=kill|stop|throw` strikes, with `@2` behind it only the second time. Each name says what has just been done, or is about to be. */
export const FAULT_POINTS = [
  'predecessor-before-freeze',
  'predecessor-before-send',
  'predecessor-between-batches',
  'predecessor-after-send',
  'predecessor-before-commit',
  'predecessor-after-commit',
  'predecessor-before-drain',
  'successor-after-welcome',
  'successor-before-ready',
  'successor-before-receive',
  'successor-before-ack',
  'successor-after-ack',
  'successor-after-commit',
  'successor-amid-resume',
  'successor-before-resumed',
] as const

/** Those of a process that leaves before its successor is there, and of one that finds what was left. */
export const HOLDER_FAULT_POINTS = [
  'predecessor-before-put',
  'predecessor-after-put',
  'keeper-amid-tape',
  'keeper-before-ack',
  'keeper-before-commit',
  'successor-after-find',
  'successor-after-open',
  'snapshot-before-hold',
  'snapshot-after-hold',
  'snapshot-after-dump',
  'snapshot-after-file',
  'snapshot-after-claim',
] as const

export type FaultPoint = (typeof FAULT_POINTS)[number] | (typeof HOLDER_FAULT_POINTS)[number]

export function createEnv<N extends Native | undefined>(
  native: N,
  environment: NodeJS.ProcessEnv = process.env,
): Omit<Env, 'native'> & { native: N } {
  const [point, action, nth] = (environment['TSUNAGI_FAULT'] ?? '').split(/[=@]/)
  let times = 0
  const silent = environment['TSUNAGI_LOG'] === 'silent'
  return {
    native,
    environment,
    now: () => performance.now(),
    fault: point ? (at) => at === point && (nth === undefined || ++times === Number(nth)) && strike(at, action) : () => {},
    log: silent ? () => {} : (line) => void process.stderr.write(`tsunagi: ${line}\n`),
  }
}

function strike(point: FaultPoint, action: string | undefined): void {
  if (action === 'kill') process.kill(process.pid, 'SIGKILL')
  if (action === 'stop') process.kill(process.pid, 'SIGSTOP')
  if (action === 'throw') throw new Error(`fault injected at ${point}`)
}
