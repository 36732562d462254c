import type { Message } from '../../src/channel/messages.js'
import type { Step } from './checker.js'
import { cutsOf, fdsInFlight, type Piece, pieceOf, type Reception, receive } from './wire.js'

/**
 * One state of the world: two processes, the kernel between them and the clients. Sets of connections and listeners are bit masks: bit 0 and 1 are
 * the connections, bit 4 and 5 the listeners; the same numbers stand for their descriptors on the wire.
 *
 * A client's bytes are 1, 2, 3…, and all of them are in the kernel from the start: whether a byte has not arrived or has not been read
 * makes no difference to anyone, so arrival needs no step of its own.
 */
export interface State {
  readonly predecessor: Predecessor
  readonly successor: Successor
  readonly third: Third
  toPredecessor: readonly Piece[]
  toSuccessor: readonly Piece[]
  /** Whose control socket the address's file names. */
  path: Side
  /** Bytes read out of the receive queue, seen by the application, and received back by the client, by connection. */
  readonly consumed: number[]
  readonly seen: number[]
  readonly answered: number[]
  /** Connections that are the successor's by right: committed to it. */
  committed: number
  /** Connections that a process owned by right and died with: their loss is nobody's fault. */
  excused: number
  faults: number
  /** What went wrong, once it has. */
  broken: string
}

export type Side = 'predecessor' | 'successor'

export interface Process {
  /** Which line of the code comes next: the name of a fault point or of a function in src. */
  at: string
  alive: boolean
  stopped: boolean
  /** Dead, and its pidfd says so: a little later than the end of file. */
  provenDead: boolean
  /** Its end of the channel is open. */
  channel: boolean
  /** What it has descriptors of. */
  holds: number
  /** Connections that its event loop reads and writes, when it runs. */
  serves: number
  /** Listeners that it accepts on, when its event loop runs. */
  accepts: number
  /** Read and not yet seen by the application, written and not yet sent: Node's two buffers, by connection. */
  readonly unread: (readonly number[])[]
  readonly unsent: (readonly number[])[]
}

export interface Predecessor extends Process {
  busyWith: '' | 'successor' | 'third'
  paused: boolean
  claimed: number
  attempts: number
  /** Connections of the transaction that was prepared, of it those committed, and those that a further one is to take. */
  moving: number
  handed: number
  due: number
  refused: number
  started: number
  retired: boolean
  timesTakenBack: number
}

export interface Successor extends Process {
  /** Where a claim returns to. */
  returnTo: string
  /** Descriptors received and not yet owned by handles, in their order. */
  arrived: readonly number[]
  record: { unread: (readonly number[])[]; unsent: (readonly number[])[] } | null
  refused: number
  touched: number
  saidStarted: number
  claimed: number
  hasPrepare: boolean
  gaveUpOnTheDead: boolean
}

export interface Third {
  at: 'idle' | 'asked' | 'welcomed' | 'closed' | 'done'
  peer: Side
  toPeer: readonly Piece[]
}

export const LISTENER = 4
export const SECOND_LISTENER = 5
/** The connections or listeners of a mask, in their order. */
export const indexesOf = (mask: number): number[] => [0, 1, 4, 5].filter((index) => has(mask, index))
export const maskOf = (indexes: readonly number[]): number => indexes.reduce((mask, index) => mask | bit(index), 0)
export const bit = (index: number): number => 1 << index
export const has = (mask: number, index: number): boolean => (mask & bit(index)) !== 0

/** What is explored: the size of the world, and how the protocol deviates from what it should be. */
export interface Run {
  /** Bytes of each connection's client. */
  readonly bytes: readonly number[]
  /** Whether the application answers each byte of that connection with the same byte. */
  readonly echoes: readonly boolean[]
  /** How many crashes, stops and throws there may be in one history. Time-outs are free. */
  readonly faults: number
  readonly third: boolean
  readonly claims: boolean
  readonly pidfd: boolean
  /** The first transaction takes the listeners and connection 0, a second one the rest. */
  readonly rolling: boolean
  readonly deviation?: Deviation
}

/** Two connections, one of which is answered: the smallest world in which order, loss and repetition can be seen on both ways. */
export const WORLD: Run = { bytes: [1, 1], echoes: [false, true], faults: 1, third: false, claims: false, pidfd: true, rolling: false }

/** Ways to get it wrong; each must be found. */
export type Deviation = keyof typeof DEVIATIONS

export const DEVIATIONS = {
  'eof is taken for death':
    'awaitVerdict commits at the end of file without asking the pidfd, and an ack that was not taken does not matter',
  'ack need not be taken': 'an ack that the closed channel does not take is passed over, and the verdict awaited',
  'handles are closed before resumed': 'release closes what it should keep until `resumed`',
  'abort after commit': 'a failure after the commit was sent still thaws and aborts',
  'time-out after commit': 'the predecessor takes back when `resumed` does not come in time',
  'served before commit': 'the successor resumes after its ack',
  'prepared has a deadline': 'awaitVerdict gives up after a while',
  'commit without ack': 'the predecessor commits as soon as the record is sent',
  'started after touching': '`started` is sent when the batch has been resumed',
  'two are welcomed': 'a hello is not refused while a successor is being served',
  'death before what is queued': 'successorOnDeath does not read the messages that the dead successor has left in the channel',
  'taken back twice': 'closing the channel within successorOnDeath takes back once more',
  'death is not waited for': 'a take-over that fails at the end of file asks the pidfd once, with time-out 0',
  'liveness asked once': 'without pidfds the predecessor asks once, at the end of file, whether the successor is alive',
  'path not published again': 'takeBack leaves the file of the address to the dead successor',
  'successor lives on after a failure': 'a successor that fails between its ack and `resumed` closes the channel and stays alive',
  'telling times out': '`started` and `resumed` fail when the predecessor does not read for a while, and the successor lives on',
  'abort within a frame': 'a record that could only be sent in part is followed by an abort on the same stream',
  'freeze outside the rollback': 'a throw in freeze leaves the channel paused and says nothing',
  'application before abort': 'handlers of the application run before the abort is sent, and may throw',
  'claim eats prepare': 'a claim that waits for `listener` takes the `prepare` that comes first for a breach of protocol',
  'session leaks after welcome': 'a failure right after `welcome` does not close the channel',
  'retiring fails silently': 'a throw while the predecessor retires is swallowed by the channel and stops it from leaving',
  'nothing moved is nothing committed':
    'where no connection moves, the end of the channel between commit and resumed ends the conversation, and the pidfd with it',
  'what was started is written again': 'takeBack puts what the kernel had not taken back into a connection that it then destroys',
  'look-up fails at death': 'listen() fails when the predecessor dies before its welcome',
} as const

export function initialState(run: Run): State {
  const all = maskOf(run.bytes.map((_, index) => index))
  const listeners = bit(LISTENER) | (run.claims ? bit(SECOND_LISTENER) : 0)
  const none = run.bytes.map(() => [])
  const process: Process = {
    at: 'loop',
    alive: true,
    stopped: false,
    provenDead: false,
    channel: false,
    holds: all | listeners,
    serves: all,
    accepts: listeners,
    unread: none,
    unsent: none,
  }
  return {
    predecessor: {
      ...process,
      busyWith: '',
      paused: false,
      claimed: 0,
      attempts: 0,
      moving: 0,
      handed: 0,
      due: 0,
      refused: 0,
      started: 0,
      retired: false,
      timesTakenBack: 0,
    },
    successor: {
      ...process,
      at: 'start',
      holds: 0,
      serves: 0,
      accepts: 0,
      returnTo: '',
      arrived: [],
      record: null,
      refused: 0,
      touched: 0,
      saidStarted: 0,
      claimed: 0,
      hasPrepare: false,
      gaveUpOnTheDead: false,
    },
    third: { at: run.third ? 'idle' : 'done', peer: 'predecessor', toPeer: [] },
    toPredecessor: [],
    toSuccessor: [],
    path: 'predecessor',
    consumed: run.bytes.map(() => 0),
    seen: run.bytes.map(() => 0),
    answered: run.bytes.map(() => 0),
    committed: 0,
    excused: 0,
    faults: run.faults,
    broken: '',
  }
}

/** A step: a copy of the state, changed. */
export function step(state: State, name: string, change: (next: State) => void): Step<State> {
  const { predecessor, successor } = state
  const to: State = {
    ...state,
    predecessor: { ...predecessor, unread: [...predecessor.unread], unsent: [...predecessor.unsent] },
    successor: { ...successor, unread: [...successor.unread], unsent: [...successor.unsent] },
    third: { ...state.third },
    consumed: [...state.consumed],
    seen: [...state.seen],
    answered: [...state.answered],
  }
  change(to)
  return { name, to }
}

export const otherOf = (side: Side): Side => (side === 'predecessor' ? 'successor' : 'predecessor')
const inboxOf = (side: Side) => (side === 'predecessor' ? 'toPredecessor' : 'toSuccessor')

/** What a process would receive now. */
export function receiveAt(state: State, side: Side): Reception {
  return receive(state[inboxOf(side)], !state[otherOf(side)].channel)
}

/** Takes what was received out of the queue. */
export function take(next: State, side: Side, rest: readonly Piece[]): void {
  next[inboxOf(side)] = rest
}

/** Closes a process's end of the channel: what is queued for it goes, descriptors in flight included. */
export function closeChannel(next: State, side: Side): void {
  next[side].channel = false
  next[inboxOf(side)] = []
}

export interface Sending {
  readonly segments?: readonly Uint8Array[]
  readonly fds?: readonly number[]
  /** Whether it may take too long: not at all, before the first byte, or anywhere. Small messages go into the queue whole or not at all; an empty queue has room. */
  readonly timeOut?: 'never' | 'whole' | 'partly' | 'where the queue is full'
  /** What might be written after a part of this message. */
  readonly follower?: Message
  readonly sent: (next: State) => void
  readonly failed: (next: State, code: 'closed' | 'ETIMEDOUT', midFrame: boolean) => void
}

/** Everything that can become of sending a message, the sender's death in the middle of it included. */
export function send(state: State, from: Side, name: string, message: Message, sending: Sending): Step<State>[] {
  const { segments = [], fds = [], timeOut = 'never', follower, sent, failed } = sending
  if (!state[from].channel || !state[otherOf(from)].channel) {
    return [step(state, `${name}: the other end is closed`, (next) => failed(next, 'closed', false))]
  }
  const inbox = inboxOf(otherOf(from))
  const piece = pieceOf(message, segments, fds)
  const append = (next: State, part: Piece) => {
    next[inbox] = [...next[inbox], part]
  }
  const steps = [
    step(state, name, (next) => {
      append(next, piece)
      sent(next)
    }),
  ]
  const mayTimeOut = timeOut === 'where the queue is full' ? state[inbox].length > 0 : timeOut !== 'never'
  if (mayTimeOut) steps.push(step(state, `${name}: time-out`, (next) => failed(next, 'ETIMEDOUT', false)))
  for (const part of timeOut === 'partly' ? cutsOf(piece, follower && pieceOf(follower)) : []) {
    steps.push(
      step(state, `${name}: time-out after ${part[2]} of ${piece[2]} bytes`, (next) => {
        append(next, part)
        failed(next, 'ETIMEDOUT', true)
      }),
    )
  }
  if (state.faults === 0) return steps
  for (const part of cutsOf(piece)) {
    steps.push(
      step(state, `${name}: killed after ${part[2]} of ${piece[2]} bytes`, (next) => {
        append(next, part)
        next.faults--
        kill(next, from)
      }),
    )
  }
  return steps
}

/** A process ends, by a signal or by an error that it must not survive. Its descriptors go at once, its pidfd tells a little later. */
export function kill(next: State, side: Side): void {
  const process = next[side]
  // What it owned by right goes with it. A successor owns what it has said it would touch: of the rest the predecessor has a reference.
  next.excused |= side === 'predecessor' ? ~next.committed & 0xf : next.committed & next.successor.saidStarted
  if (!next[otherOf(side)].alive) next.excused = 0xf
  process.at = 'dead'
  process.alive = false
  process.stopped = false
  process.holds = 0
  process.serves = 0
  process.accepts = 0
  process.unread.fill([])
  process.unsent.fill([])
  closeChannel(next, side)
}

/** References to a connection's or listener's socket, those in flight included. */
export function isReferenced(state: State, index: number): boolean {
  return (
    has(state.predecessor.holds | state.successor.holds, index) ||
    (state.successor.channel && fdsInFlight(state.toSuccessor).includes(index))
  )
}

/** What the event loop of a process does with the connections that it serves. */
export function servingSteps(run: Run, state: State, side: Side): Step<State>[] {
  const steps: Step<State>[] = []
  run.bytes.forEach((total, index) => {
    const process = state[side]
    if (!has(process.serves, index)) return
    const consumed = state.consumed[index] as number
    if (consumed < total) {
      steps.push(
        step(state, `${side}: reads byte ${consumed + 1} of connection ${index}`, (next) => {
          next.consumed[index] = consumed + 1
          next[side].unread[index] = [...(process.unread[index] ?? []), consumed + 1]
        }),
      )
    }
    const [byte, ...unread] = process.unread[index] ?? []
    if (byte !== undefined) {
      steps.push(
        step(state, `${side}: the application takes byte ${byte} of connection ${index}`, (next) => {
          next[side].unread[index] = unread
          if (byte !== (state.seen[index] as number) + 1)
            next.broken ||= `P1: the application got byte ${byte} of connection ${index} after ${state.seen[index]}`
          next.seen[index] = byte
          if (run.echoes[index]) next[side].unsent[index] = [...(process.unsent[index] ?? []), byte]
        }),
      )
    }
    const [answer, ...unsent] = process.unsent[index] ?? []
    if (answer !== undefined) {
      steps.push(
        step(state, `${side}: byte ${answer} goes out on connection ${index}`, (next) => {
          next[side].unsent[index] = unsent
          goOut(next, index, [answer])
        }),
      )
    }
  })
  return steps
}

export function goOut(next: State, index: number, bytes: readonly number[]): void {
  for (const byte of bytes) {
    if (byte !== (next.answered[index] as number) + 1)
      next.broken ||= `P1: the client got byte ${byte} of connection ${index} after ${next.answered[index]}`
    next.answered[index] = byte
  }
}

/** Lets the application fail at a fault point, if one more fault is allowed. */
export function throwAt(state: State, side: Side, change: (next: State) => void): Step<State>[] {
  if (state.faults === 0) return []
  return [
    step(state, `throw at ${side}-${state[side].at}`, (next) => {
      next.faults--
      change(next)
    }),
  ]
}
