import type { Received } from '../../src/channel/codec.js'
import type { Message, MessageOf } from '../../src/channel/messages.js'
import type { Step } from './checker.js'
import {
  bit,
  closeChannel,
  goOut,
  has,
  kill,
  LISTENER,
  maskOf,
  type Run,
  receiveAt,
  SECOND_LISTENER,
  type Sending,
  type State,
  send,
  servingSteps,
  step,
  take,
  throwAt,
} from './state.js'
import { fromWire } from './wire.js'

/** The successor, step by step as in src/successor. `at` is the fault point or the function that comes next. */
export function successorSteps(run: Run, state: State): Step<State>[] {
  const { at } = state.successor
  return [...(LOOP.has(at) ? servingSteps(run, state, 'successor') : []), ...(AT[at]?.(run, state) ?? [])]
}

const LOOP = new Set(['serving', 'failed'])
export const successorLines = (): string[] => Object.keys(AT)

const AT: Record<string, (run: Run, state: State) => Step<State>[]> = {
  // ---- session.ts: openSession, within listen()
  start(_, state) {
    if (!state.predecessor.alive) return [bindsItself(state)]
    const connected = step(state, 'successor: connectPeer', (next) => {
      next.predecessor.channel = true
      next.successor.channel = true
      next.successor.at = 'greet'
    })
    return [connected]
  },
  greet: (run, state) => tell(state, HELLO, { sent: go('awaitWelcome'), failed: (next) => lookUpFailed(run, next) }),
  awaitWelcome: (run, state) =>
    receiving(state, 'greet', {
      welcome: (next, { fds }) => {
        next.successor.holds |= maskOf(fds)
        next.successor.claimed = bit(LISTENER)
        next.successor.at = 'after-welcome'
      },
      refused: giveUp,
      closed: (next) => lookUpFailed(run, next),
      timeOut: giveUp,
    }),
  /** The predecessor died during the look-up: as soon as that is proven its address is free. */
  lookUpAgain(_, state) {
    if (state.predecessor.provenDead) return [bindsItself(state)]
    return state.predecessor.alive ? [step(state, 'successor: the look-up fails', giveUp)] : []
  },

  'after-welcome': (run, state) => [
    step(state, 'successor: session.listen', go('untilReady')),
    ...throwAt(state, 'successor', (next) => {
      if (run.deviation !== 'session leaks after welcome') return giveUp(next)
      next.successor.at = 'failed'
      next.successor.holds = 0
    }),
  ],

  // ---- take-over.ts: takeOver
  untilReady: (run, state) => [step(state, 'successor: is ready', go('before-ready')), ...claiming(run, state), ...listening(state, {})],
  'before-ready': (_, state) => [...sayReady(state), ...throwing(state)],
  retry: (_, state) => [...sayReady(state), ...listening(state, {})],
  awaitPrepare: (run, state) =>
    state.successor.hasPrepare
      ? [step(state, 'successor: prepare', prepared)]
      : [...listening(state, { prepare: prepared }), ...claiming(run, state)],
  'before-receive': (_, state) => [
    ...tell(state, { type: 'go' }, { sent: go('receive'), failed: (next) => fail(next, 'closed') }),
    ...throwing(state),
  ],

  claim,

  // ---- receive.ts, restore.ts
  receive: (_, state) => [
    ...receiving(state, 'receive', {
      fds: (next, { fds }) => {
        next.successor.arrived = [...next.successor.arrived, ...fds]
        next.successor.holds |= maskOf(fds)
      },
      transfer: (next, received) => {
        if ((received.message as MessageOf<'transfer'>).count !== next.successor.arrived.length) return fail(next, 'other')
        next.successor.record = recordOf(received as Received & { message: MessageOf<'transfer'> })
        next.successor.refused = flawed(next, (received.message as MessageOf<'transfer'>).verify)
        next.successor.at = 'restore'
      },
      abort: aborted,
      closed: (next) => fail(next, 'closed'),
      timeOut: (next) => fail(next, 'other'),
      other: (next) => fail(next, 'other'),
    }),
  ],
  restore: (_, state) => [
    step(state, 'successor: restore', go('before-ack')),
    ...state.successor.arrived.slice(-1).map((connection) =>
      step(state, `successor: restore refuses connection ${connection}`, (next) => {
        next.successor.refused |= bit(connection)
        next.successor.at = 'before-ack'
      }),
    ),
    ...send(
      state,
      'successor',
      'successor: takeTransaction sends nack',
      { type: 'nack', code: 'x', reason: 'migrate threw' },
      {
        sent: (next) => fail(next, 'other'),
        failed: (next) => fail(next, 'closed'),
      },
    ),
  ],
  'before-ack'(run, state) {
    const { arrived, refused: mask } = state.successor
    const refused = arrived.flatMap((connection, index): [number, string][] => (has(mask, connection) ? [[index, 'flaw']] : []))
    const acked = (next: State) => {
      next.successor.at = 'after-ack'
      if (run.deviation === 'served before commit') committed(next)
    }
    const needNotBeTaken = run.deviation === 'ack need not be taken' || run.deviation === 'eof is taken for death'
    // A predecessor that does not take it has died, or has given up and could not say so, and may have served on since: its record proves nothing.
    const failed = needNotBeTaken ? acked : (next: State) => fail(next, 'closed')
    return [...tell(state, { type: 'ack', refused }, { sent: acked, failed }), ...throwing(state)]
  },

  // ---- await-verdict.ts
  'after-ack'(run, state) {
    const steps = receiving(state, 'awaitVerdict', {
      commit: committed,
      abort: aborted,
      closed: (next) => {
        if (run.deviation === 'eof is taken for death') committed(next)
        else next.successor.at = 'provesDeath'
      },
      other: (next) => dies(run, next),
      ...(run.deviation === 'prepared has a deadline' && { timeOut: go('leavesVerdict') }),
    })
    return [...steps, ...throwAt(state, 'successor', (next) => dies(run, next))]
  },
  leavesVerdict: (_, state) => [step(state, 'successor: has waited long enough', (next) => fail(next, 'other'))],
  provesDeath(_, state) {
    const { alive, provenDead } = state.predecessor
    if (provenDead) return [step(state, 'successor: provesDeath: it is, and we hold all it had', committed)]
    return alive ? [step(state, 'successor: provesDeath: it is not, its connections are left to it', (next) => fail(next, 'other'))] : []
  },

  // ---- take-over.ts: finish; resume.ts, one connection a batch here
  'after-commit': (run, state) => [...resumeNext(run, state, 0), ...throwAt(state, 'successor', (next) => dies(run, next))],
  'resume 0': (run, state) => resumeConnection(run, state, 0),
  'amid-resume': (run, state) => [...resumeNext(run, state, 1), ...throwAt(state, 'successor', (next) => dies(run, next))],
  'resume 1': (run, state) => resumeConnection(run, state, 1),
  'told 0': (run, state) => started(run, state, 0, 'amid-resume'),
  'told 1': (run, state) => started(run, state, 1, 'serveListeners'),
  serveListeners: (_, state) => [
    step(state, 'successor: serveListeners', (next) => {
      acceptAll(next)
      next.successor.at = 'before-resumed'
    }),
  ],
  'before-resumed': (run, state) => [
    ...tell(
      state,
      { type: 'resumed' },
      {
        sent: resumed,
        failed: (next, code) => (code === 'closed' ? resumed(next) : dies(run, next)),
        ...(run.deviation === 'telling times out' && { timeOut: 'whole' }),
      },
    ),
    ...throwAt(state, 'successor', (next) => dies(run, next)),
  ],

  // ---- late-writes.ts
  serving(_, state) {
    if (!state.successor.channel) return thirdComes(state)
    return [
      ...thirdComes(state),
      ...receiving(state, 'deliverLate', { left: closeOwn, closed: closeOwn, prepare: prepared, abort: () => {} }),
    ]
  },

  // ---- installation.ts: the catch of #takeOver
  failing(run, state) {
    const { alive, provenDead } = state.predecessor
    if (provenDead) return [step(state, 'successor: serveAlone', serveAlone)]
    if (!alive && run.deviation !== 'death is not waited for') return [] // a moment later it is proven
    return [step(state, 'successor: gives up', giveUp)]
  },
  /** The application lives on, or not: ending is one of the deaths. */
  failed: () => [],
}

const HELLO = { type: 'hello', protocolMin: 1, protocolMax: 1, pid: 2, version: '1', node: 'v1', address: 'first', token: '' } as const

const go = (at: string) => (next: State) => {
  next.successor.at = at
}

function tell(state: State, message: Message, sending: Sending): Step<State>[] {
  return send(
    state,
    'successor',
    `successor: send ${message.type}${message.type === 'started' ? ` ${message.connections}` : ''}`,
    message,
    sending,
  )
}

type Reaction = (next: State, received: Received) => void

/** What a blocking or listening receive of this process can come to. */
function receiving(state: State, where: string, reactions: Record<string, Reaction> & { timeOut?: Reaction }): Step<State>[] {
  const reception = receiveAt(state, 'successor')
  const none = { message: { type: 'commit' }, segments: [], fds: [] } as Received
  if (reception.kind === 'nothing') {
    const { timeOut } = reactions
    return timeOut ? [step(state, `successor: ${where}: time-out`, (next) => timeOut(next, none))] : []
  }
  if (reception.kind !== 'message') {
    const reaction = reactions[reception.kind] ?? reactions['other'] ?? reactions['closed']
    return [step(state, `successor: ${where}: ${reception.kind}`, (next) => reaction?.(next, none))]
  }
  const { received } = reception
  const reaction = reactions[received.message.type] ?? reactions['other']
  return [
    step(state, `successor: ${where} receives ${received.message.type}`, (next) => {
      take(next, 'successor', reception.rest)
      if (reaction) reaction(next, received)
      else next.broken ||= `the successor cannot take ${received.message.type} in ${where}`
    }),
  ]
}

/** On the event loop: an answer that is waited for, a refusal, or the end. */
function listening(state: State, reactions: Record<string, Reaction>): Step<State>[] {
  return receiving(state, 'session', {
    refused: (next) => fail(next, 'other'),
    closed: (next) => fail(next, 'closed'),
    other: (next) => fail(next, 'other'),
    ...reactions,
  })
}

/** Any turn of the event loop may bring another listen(): session.claim, which blocks. */
function claiming(run: Run, state: State): Step<State>[] {
  if (!run.claims || has(state.successor.claimed, SECOND_LISTENER) || state.successor.returnTo !== '') return []
  const { at } = state.successor
  return tell(
    state,
    { type: 'claim', address: 'second' },
    {
      sent: (next) => {
        next.successor.returnTo = at
        next.successor.at = 'claim'
      },
      failed: (next) => fail(next, 'closed'),
    },
  )
}

function claim(run: Run, state: State): Step<State>[] {
  const back = (next: State) => {
    next.successor.at = next.successor.returnTo
  }
  return receiving(state, 'claim', {
    listener: (next, { fds }) => {
      next.successor.holds |= maskOf(fds)
      next.successor.claimed |= maskOf(fds)
      back(next)
    },
    prepare: (next) => {
      // The claim fails for its server alone; what it took from the take-over is gone.
      if (run.deviation === 'claim eats prepare') next.successor.at = 'awaitWhatIsGone'
      else next.successor.hasPrepare = true
    },
    closed: (next) => fail(next, 'closed'),
    other: (next) => fail(next, 'other'),
    timeOut: back, // its server gets an error; a late answer is a breach of protocol then
  })
}

function sayReady(state: State): Step<State>[] {
  const claimed = has(state.successor.claimed, SECOND_LISTENER) ? ['first', 'second'] : ['first']
  return tell(
    state,
    { type: 'ready', claimed, states: [], mode: 'auto', ahead: false },
    { sent: go('awaitPrepare'), failed: (next) => fail(next, 'closed') },
  )
}

function prepared(next: State): void {
  next.successor.hasPrepare = false
  next.successor.at = 'before-receive'
}

function recordOf({ message, segments }: Received & { message: MessageOf<'transfer'> }): NonNullable<State['successor']['record']> {
  const buffers = (fields: [number, number | Uint8Array][]) => {
    const lists: number[][] = Array.from({ length: message.count }, () => [])
    for (const [index, field] of fields)
      lists[index]?.push(...fromWire(typeof field === 'number' ? (segments[field] as Uint8Array) : field))
    return lists
  }
  return { unread: buffers(message.unread), unsent: buffers(message.unsent) }
}

/** flawOf: the kernel's figures against the record's. */
function flawed({ consumed, answered, successor }: State, verify: Uint8Array): number {
  const figures = new Float64Array(Uint8Array.from(verify).buffer)
  return successor.arrived.reduce((mask, fd, index) => {
    const fits = figures[3 * index] === consumed[fd] && figures[3 * index + 1] === answered[fd] && figures[3 * index + 2] === fd
    return fits ? mask : mask | bit(fd)
  }, 0)
}

function dropArrived(next: State): void {
  next.successor.holds &= ~maskOf(next.successor.arrived)
  next.successor.arrived = []
  next.successor.record = null
  next.successor.refused = 0
}

function aborted(next: State, { message }: Received): void {
  dropArrived(next)
  if (next.successor.accepts !== 0)
    next.successor.at = 'serving' // a later transaction
  else if (message.type === 'abort' && message.again) next.successor.at = 'retry'
  else fail(next, 'other')
}

function committed(next: State): void {
  const { successor } = next
  successor.holds &= ~successor.refused
  if (!next.predecessor.alive) next.committed |= maskOf(successor.arrived) & ~successor.refused
  successor.at = 'after-commit'
}

function resumeNext(run: Run, state: State, index: number): Step<State>[] {
  const connection = state.successor.arrived[index]
  if (connection === undefined || has(state.successor.refused, connection)) {
    return [step(state, `successor: there is no connection ${index} to resume`, go(index === 0 ? 'amid-resume' : 'serveListeners'))]
  }
  if (run.deviation === 'started after touching') return [step(state, 'successor: resume', go(`resume ${index}`))]
  return started(run, state, index, `resume ${index}`)
}

/** Told before it is touched. A dead predecessor need not hear; one that does not read is waited for: it may take back what it has not heard of. */
function started(run: Run, state: State, index: number, then: string): Step<State>[] {
  const told = (next: State) => {
    next.successor.saidStarted |= bit(state.successor.arrived[index] as number)
    next.successor.at = then
  }
  return tell(
    state,
    { type: 'started', connections: [index] },
    {
      sent: told,
      failed: (next, code) => (code === 'closed' ? told(next) : dies(run, next)),
      ...(run.deviation === 'telling times out' && { timeOut: 'whole' }),
    },
  )
}

function resumeConnection(run: Run, state: State, index: number): Step<State>[] {
  const connection = state.successor.arrived[index] as number
  const { unread = [], unsent = [] } = { unread: state.successor.record?.unread[index], unsent: state.successor.record?.unsent[index] }
  const resume = (next: State) => {
    const { successor } = next
    successor.unread[connection] = unread
    successor.unsent[connection] = unsent
    successor.serves |= bit(connection)
    successor.touched |= bit(connection)
    if (run.deviation === 'started after touching') successor.at = `told ${index}`
    else successor.at = index === 0 ? 'amid-resume' : 'serveListeners'
  }
  const steps = [step(state, `successor: resumeConnection ${connection}`, resume)]
  if (unsent.length === 0) return steps
  const writing = step(state, `successor: resumeConnection ${connection}, and the kernel takes what was unsent`, (next) => {
    resume(next)
    next.successor.unsent[connection] = []
    goOut(next, connection, unsent)
  })
  return [...steps, writing]
}

function resumed(next: State): void {
  next.successor.arrived = []
  next.successor.record = null
  next.successor.refused = 0
  next.successor.at = 'serving'
}

function acceptAll(next: State): void {
  next.successor.accepts = next.successor.claimed
  next.path = 'successor'
}

function closeOwn(next: State): void {
  closeChannel(next, 'successor')
}

function throwing(state: State): Step<State>[] {
  return throwAt(state, 'successor', (next) => fail(next, 'other'))
}

/** Before its ack a failure costs nothing. At the end of the channel it is asked whether the predecessor is dead: then its listeners are ours. */
function fail(next: State, cause: 'closed' | 'other'): void {
  dropArrived(next)
  if (next.successor.accepts !== 0) serveOn(next)
  else if (next.predecessor.provenDead) serveAlone(next)
  else if (cause === 'closed') next.successor.at = 'failing'
  else giveUp(next)
}

/** After its ack only a process that ends gives back what it was sent: a closed channel proves nothing to the predecessor. */
function dies(run: Run, next: State): void {
  const survives =
    run.deviation === 'successor lives on after a failure' || (run.deviation === 'telling times out' && next.faults === run.faults)
  if (!survives) return kill(next, 'successor')
  next.successor.holds &= next.successor.touched
  fail(next, 'other')
}

/** A later transaction failed: it costs no more than the channel. */
function serveOn(next: State): void {
  closeOwn(next)
  next.successor.at = 'serving'
}

function serveAlone(next: State): void {
  closeOwn(next)
  acceptAll(next)
  next.successor.at = 'serving'
}

function giveUp(next: State): void {
  const { successor, predecessor } = next
  if (successor.at === 'failing' && !predecessor.alive) successor.gaveUpOnTheDead = true
  closeOwn(next)
  successor.holds &= successor.touched
  successor.accepts = 0
  successor.at = 'failed'
}

function lookUpFailed(run: Run, next: State): void {
  closeOwn(next)
  next.successor.at = 'lookUpAgain'
  if (run.deviation !== 'look-up fails at death') return
  if (!next.predecessor.alive) next.successor.gaveUpOnTheDead = true
  next.successor.at = 'failed'
}

function bindsItself(state: State): Step<State> {
  return step(state, 'successor: the address is free', (next) => {
    closeOwn(next)
    next.successor.holds |= bit(LISTENER)
    next.successor.claimed = bit(LISTENER)
    acceptAll(next)
    next.successor.at = 'serving'
  })
}

function thirdComes(state: State): Step<State>[] {
  if (state.third.peer !== 'successor' || state.third.at !== 'asked') return []
  return [
    step(state, 'successor: welcomes the third', (next) => {
      next.third.at = 'done'
      next.third.toPeer = []
    }),
  ]
}
