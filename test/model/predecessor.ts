import type { Transfer } from '../../src/channel/record.js'
import type { Step } from './checker.js'
import {
  bit,
  closeChannel,
  goOut,
  indexesOf,
  kill,
  LISTENER,
  maskOf,
  type Run,
  receiveAt,
  SECOND_LISTENER,
  type State,
  send,
  servingSteps,
  step,
  take,
  throwAt,
} from './state.js'
import { receive, toWire } from './wire.js'

/** The predecessor, step by step as in src/predecessor. `at` is the fault point or the function that comes next. */
export function predecessorSteps(run: Run, state: State): Step<State>[] {
  const { at } = state.predecessor
  const loop = LOOP.has(at) ? [...servingSteps(run, state, 'predecessor'), ...deskSteps(run, state)] : []
  return [...loop, ...(AT[at]?.(run, state) ?? [])]
}

function toRecord(next: State): void {
  next.predecessor.at = 'sendRecord'
}

/** Where the event loop runs. Everywhere else this process is inside its frozen block. */
const LOOP = new Set(['loop', 'handOver', 'settle', 'draining', 'stuck'])
export const predecessorLines = (): string[] => Object.keys(AT)
export const predecessorTurns = (state: State): boolean => LOOP.has(state.predecessor.at)

const AT: Record<string, (run: Run, state: State) => Step<State>[]> = {
  loop: conversation,

  /** `go` was received: a fresh macrotask enters the block. */
  handOver: (_, state) => [
    step(state, 'predecessor: #handOver', (next) => {
      next.predecessor.at = 'before-freeze'
    }),
  ],

  'before-freeze': (run, state) => [
    step(state, 'predecessor: freeze, snapshot', (next) => {
      next.predecessor.at = 'before-send'
    }),
    ...throwAt(state, 'predecessor', (next) => {
      if (run.deviation !== 'freeze outside the rollback') return abort(run, next, { again: false })
      next.predecessor.at = 'loop' // by an uncaughtException handler
      next.predecessor.paused = true
    }),
  ],

  'before-send'(run, state) {
    const [first, second] = indexesOf(state.predecessor.moving)
    if (first === undefined) return [step(state, 'predecessor: there is no fd to send', toRecord), ...throwAndAbort(run, state)]
    return [...sendFd(run, state, first, second === undefined ? 'sendRecord' : 'between-batches'), ...throwAndAbort(run, state)]
  },
  'between-batches': (run, state) => [...sendFd(run, state, 1, 'sendRecord'), ...throwAndAbort(run, state)],

  sendRecord(run, state) {
    const { record, segments } = snapshot(state)
    return send(state, 'predecessor', 'predecessor: send transfer', record, {
      segments,
      timeOut: 'partly',
      follower: abortMessage(true),
      sent: (next) => {
        next.predecessor.at = run.deviation === 'commit without ack' ? 'before-commit' : 'after-send'
      },
      failed: (next, code, midFrame) => abort(run, next, { again: code === 'ETIMEDOUT', midFrame }),
    })
  },

  'after-send'(run, state) {
    const steps = throwAndAbort(run, state)
    const reception = receiveAt(state, 'predecessor')
    if (reception.kind === 'message') {
      const { message } = reception.received
      steps.push(
        step(state, `predecessor: awaitAck receives ${message.type}`, (next) => {
          take(next, 'predecessor', reception.rest)
          if (message.type !== 'ack') return abort(run, next, { again: false })
          const moving = indexesOf(next.predecessor.moving)
          next.predecessor.refused = maskOf(message.refused.map(([index]) => moving[index] as number))
          next.predecessor.at = 'before-commit'
        }),
      )
    } else if (reception.kind !== 'nothing')
      steps.push(step(state, `predecessor: awaitAck: ${reception.kind}`, (next) => abort(run, next, { again: false })))
    else steps.push(step(state, 'predecessor: awaitAck: the budget is used up', (next) => abort(run, next, { again: true })))
    return steps
  },

  'before-commit': (run, state) => [
    ...send(
      state,
      'predecessor',
      'predecessor: send commit',
      { type: 'commit' },
      {
        timeOut: 'whole',
        sent: (next) => {
          next.predecessor.handed = next.predecessor.moving & ~next.predecessor.refused
          next.committed |= next.predecessor.handed
          next.predecessor.at = 'after-commit'
        },
        failed: (next, code) => abort(run, next, { again: code === 'ETIMEDOUT' }),
      },
    ),
    ...throwAndAbort(run, state),
  ],

  'after-commit': (run, state) => [
    step(state, 'predecessor: release', (next) => {
      const { predecessor } = next
      predecessor.serves &= ~predecessor.handed
      predecessor.accepts = 0
      predecessor.at = 'settle'
      predecessor.started = 0
      if (run.deviation === 'handles are closed before resumed') predecessor.holds &= ~predecessor.handed & ~predecessor.claimed
    }),
    ...throwAt(state, 'predecessor', (next) => {
      if (run.deviation === 'abort after commit') abort(run, next, { again: false })
      else kill(next, 'predecessor')
    }),
  ],

  sendAbort: (_, state) => sendAbort(state, false),
  sendAbortAgain: (_, state) => sendAbort(state, true),

  settle: settlement,

  'before-drain': (run, state) => [
    step(state, 'predecessor: drain', (next) => {
      next.predecessor.at = 'draining'
    }),
    ...throwAt(state, 'predecessor', (next) => {
      next.predecessor.at = run.deviation === 'retiring fails silently' ? 'stuck' : 'draining'
    }),
  ],

  draining(run, state) {
    const { serves, due, moving, channel } = state.predecessor
    if (channel && due !== 0 && moving === 0) return [...conversation(run, state), ...prepareNext(state)]
    if (serves !== 0) return conversation(run, state) // until its client ends, or the grace period does
    const exit = (next: State) => kill(next, 'predecessor')
    return send(state, 'predecessor', 'predecessor: sayLeft and exit', { type: 'left' }, { sent: exit, failed: exit })
  },
}

// ---- conversation.ts

function conversation(run: Run, state: State): Step<State>[] {
  const { predecessor } = state
  if (!predecessor.channel || predecessor.paused) return []
  const reception = receiveAt(state, 'predecessor')
  if (reception.kind === 'nothing') return []
  const end = endOf
  if (reception.kind !== 'message') return [step(state, `predecessor: #end, ${reception.kind}`, end)]
  const { message } = reception.received
  const taken = (next: State) => take(next, 'predecessor', reception.rest)
  const answer = (name: string, ...[reply, sending]: AnswerOf) =>
    send(state, 'predecessor', `predecessor: ${name}`, reply, {
      ...sending,
      sent: (next) => {
        taken(next)
        sending.sent(next)
      },
      failed: end,
    })
  switch (message.type) {
    case 'hello': {
      if ((predecessor.busyWith !== '' && run.deviation !== 'two are welcomed') || predecessor.retired)
        return answer('#welcome refuses', { type: 'refused', code: 'ERR_TSUNAGI_BUSY', reason: 'busy' }, { sent: end })
      return answer('#welcome', WELCOME, {
        fds: [LISTENER],
        sent: (next) => {
          next.predecessor.busyWith = 'successor'
          next.predecessor.claimed = bit(LISTENER)
        },
      })
    }
    case 'claim':
      return answer(
        '#offer',
        { type: 'listener', address: message.address, found: true },
        {
          fds: [SECOND_LISTENER],
          sent: (next) => {
            next.predecessor.claimed |= bit(SECOND_LISTENER)
          },
        },
      )
    case 'ready':
      return answer(
        '#prepare',
        { type: 'prepare', connections: run.bytes.length, bytes: 0 },
        {
          sent: (next) => {
            next.predecessor.claimed &= message.claimed.includes('second') ? ~0 : bit(LISTENER)
            next.predecessor.moving = run.rolling ? bit(0) : maskOf(run.bytes.map((_, index) => index))
            next.predecessor.due = run.rolling ? bit(1) : 0
          },
        },
      )
    case 'go':
      if (predecessor.moving === 0 && run.bytes.length > 0) return [step(state, 'predecessor: #end, go without prepare', end)]
      return [
        step(state, 'predecessor: #go', (next) => {
          taken(next)
          next.predecessor.at = 'handOver'
        }),
      ]
    case 'ack':
    case 'nack':
      return [step(state, `predecessor: passes over ${message.type}`, taken)]
    default:
      return [step(state, `predecessor: #end, ${message.type} before the handover`, end)]
  }
}

type AnswerOf = [Parameters<typeof send>[3], { fds?: readonly number[]; sent: (next: State) => void }]

const WELCOME = { type: 'welcome', protocol: 1, pid: 1, version: '1', node: 'v1', generation: 1 } as const

function endConversation(next: State): void {
  closeChannel(next, 'predecessor')
  next.predecessor.busyWith = ''
  next.predecessor.at = 'loop'
}

/** A later transaction cannot be: what is left stays here and drains. */
function giveUpRest(next: State): void {
  closeChannel(next, 'predecessor')
  next.predecessor.due = 0
  next.predecessor.moving = 0
  next.predecessor.at = 'draining'
}

/** #continue: the next transaction, after one has been resumed. */
function prepareNext(state: State): Step<State>[] {
  return send(
    state,
    'predecessor',
    'predecessor: #continue sends prepare',
    { type: 'prepare', connections: 1, bytes: 0 },
    {
      sent: (next) => {
        next.predecessor.moving = next.predecessor.due
        next.predecessor.due = 0
      },
      failed: giveUpRest,
    },
  )
}

/** Before commit: thaw is to return, since nothing was changed. */
function abort(run: Run, next: State, { again: transient, midFrame = false }: { again: boolean; midFrame?: boolean }): void {
  const { predecessor } = next
  const isFirst = !predecessor.retired
  const again = isFirst && ++predecessor.attempts < MAX_ATTEMPTS && transient
  predecessor.moving = 0
  if (run.deviation === 'application before abort' && next.faults > 0) {
    next.faults--
    predecessor.at = isFirst ? 'loop' : 'draining'
    predecessor.paused = true
  }
  // After part of a frame the stream says nothing any more: only its end does.
  else if (midFrame && run.deviation !== 'abort within a frame') endOf(next)
  else predecessor.at = again ? 'sendAbortAgain' : 'sendAbort'
}

/** Still in the block. Where the abort is not taken, the end of the channel has to do. */
function sendAbort(state: State, again: boolean): Step<State>[] {
  return send(state, 'predecessor', 'predecessor: send abort', abortMessage(again), {
    timeOut: 'where the queue is full',
    sent: (next) => {
      if (!next.predecessor.retired && !again) endOf(next)
      else next.predecessor.at = next.predecessor.retired ? 'draining' : 'loop'
    },
    failed: endOf,
  })
}

const abortMessage = (again: boolean) => ({ type: 'abort', code: 'x', reason: 'the handover was given up', again }) as const

function endOf(next: State): void {
  if (next.predecessor.retired) giveUpRest(next)
  else endConversation(next)
}

const MAX_ATTEMPTS = 2

function throwAndAbort(run: Run, state: State): Step<State>[] {
  return throwAt(state, 'predecessor', (next) => abort(run, next, { again: false }))
}

// ---- snapshot.ts, send.ts: one descriptor is a batch here

function sendFd(run: Run, state: State, index: number, then: string): Step<State>[] {
  return send(
    state,
    'predecessor',
    `predecessor: send fds ${index}`,
    { type: 'fds', count: 1 },
    {
      fds: [index],
      timeOut: 'whole',
      sent: (next) => {
        next.predecessor.at = then
      },
      failed: (next, code) => abort(run, next, { again: code === 'ETIMEDOUT' }),
    },
  )
}

function snapshot({ predecessor, consumed, answered }: State): { record: Transfer; segments: Uint8Array[] } {
  const moving = indexesOf(predecessor.moving)
  const n = moving.length
  const segments: Uint8Array[] = []
  const blobs = (buffers: readonly (readonly number[])[]) =>
    moving.flatMap((connection, index): [number, number][] => {
      const bytes = buffers[connection] ?? []
      return bytes.length > 0 ? [[index, segments.push(toWire(bytes)) - 1]] : []
    })
  const verify = Float64Array.from(moving.flatMap((connection) => [consumed[connection] ?? 0, answered[connection] ?? 0, connection]))
  const record: Transfer = {
    type: 'transfer',
    count: n,
    base: predecessor.retired ? 1 : 0,
    more: predecessor.due === 0 ? 0 : 1,
    servers: ['first'],
    server: new Uint8Array(2 * n),
    flags: new Uint8Array(2 * n),
    verify: new Uint8Array(verify.buffer),
    timeouts: [],
    highWaterMarks: [],
    unsent: blobs(predecessor.unsent),
    unread: blobs(predecessor.unread),
    graph: new Uint8Array(),
    required: [],
    protocols: [],
  }
  return { record, segments }
}

// ---- settle.ts, release.ts

function settlement(run: Run, state: State): Step<State>[] {
  const steps: Step<State>[] = []
  const { predecessor, successor } = state
  const reception = predecessor.channel ? receiveAt(state, 'predecessor') : { kind: 'nothing' as const }
  if (reception.kind === 'message') {
    const { message } = reception.received
    steps.push(
      step(state, `predecessor: settlement receives ${message.type}`, (next) => {
        take(next, 'predecessor', reception.rest)
        if (message.type === 'started') noteStarted(next, message.connections)
        else if (message.type === 'resumed') resumed(next)
      }),
    )
  } else if (reception.kind !== 'nothing') {
    steps.push(
      step(state, `predecessor: settlement: ${reception.kind}`, (next) => {
        closeChannel(next, 'predecessor')
        if (run.deviation === 'nothing moved is nothing committed' && predecessor.handed === 0) return endConversation(next)
        if (run.pidfd) return
        if (successor.provenDead) successorOnDeath(run, next)
        else if (run.deviation === 'liveness asked once') next.predecessor.at = 'stuck'
      }),
    )
  }
  const asks = run.pidfd || !predecessor.channel
  if (asks && successor.provenDead) {
    steps.push(step(state, 'predecessor: successorOnDeath', (next) => successorOnDeath(run, next)))
  }
  if (run.deviation === 'time-out after commit') {
    steps.push(step(state, 'predecessor: resumed did not come in time', (next) => takeBack(run, next)))
  }
  return steps
}

/** The dead successor's last words first: `started` may still be in the queue, or `resumed`. */
function successorOnDeath(run: Run, next: State): void {
  if (run.deviation === 'taken back twice' && next.predecessor.channel) next.predecessor.timesTakenBack++
  while (next.predecessor.channel && run.deviation !== 'death before what is queued') {
    const reception = receive(next.toPredecessor, true)
    if (reception.kind !== 'message') break
    take(next, 'predecessor', reception.rest)
    const { message } = reception.received
    if (message.type === 'started') noteStarted(next, message.connections)
    else if (message.type === 'resumed') return resumed(next)
  }
  takeBack(run, next)
}

function noteStarted(next: State, connections: readonly number[]): void {
  const moving = indexesOf(next.predecessor.moving)
  next.predecessor.started |= maskOf(connections.map((index) => moving[index] as number))
}

function takeBack(run: Run, next: State): void {
  const { predecessor } = next
  const { handed, started } = predecessor
  closeChannel(next, 'predecessor')
  predecessor.timesTakenBack++
  if (predecessor.timesTakenBack > 1) next.broken ||= 'P1: the connections were put together again twice'
  if (run.deviation === 'what was started is written again') {
    for (const index of indexesOf(handed & started)) goOut(next, index, predecessor.unsent[index] ?? [])
  }
  predecessor.serves |= handed & ~started
  predecessor.holds &= ~(handed & started)
  predecessor.handed = 0
  next.committed &= ~handed
  if (predecessor.retired) return giveUpRest(next)
  predecessor.moving = 0
  predecessor.due = 0
  predecessor.accepts |= predecessor.holds & ~0xf
  if (run.deviation !== 'path not published again') next.path = 'predecessor'
  predecessor.busyWith = ''
  predecessor.at = 'loop'
}

/** letGo: this transaction cannot be taken back any more. With the first one the process is retired. */
function resumed(next: State): void {
  const { predecessor } = next
  predecessor.holds &= ~predecessor.handed & ~predecessor.claimed
  predecessor.handed = 0
  predecessor.moving = 0
  predecessor.at = predecessor.retired ? 'draining' : 'before-drain'
  predecessor.retired = true
}

// ---- desk.ts: the third process

function deskSteps(run: Run, state: State): Step<State>[] {
  const { predecessor, third } = state
  if (third.peer !== 'predecessor') return []
  if (third.at === 'closed') {
    return [
      step(state, 'predecessor: #end of the third', (next) => {
        next.third.at = 'done'
        if (next.predecessor.busyWith === 'third') next.predecessor.busyWith = ''
      }),
    ]
  }
  if (third.at !== 'asked') return []
  const reception = receive(third.toPeer, false)
  if (reception.kind !== 'message' || reception.received.message.type !== 'hello') return []
  const isRefused = (predecessor.busyWith !== '' && run.deviation !== 'two are welcomed') || predecessor.retired
  return [
    step(state, `predecessor: ${isRefused ? 'refuses' : 'welcomes'} the third`, (next) => {
      next.third.toPeer = []
      next.third.at = isRefused ? 'done' : 'welcomed'
      if (isRefused) return
      if (next.predecessor.busyWith !== '') next.broken ||= 'P2: two processes were welcomed at once'
      next.predecessor.busyWith = 'third'
    }),
  ]
}
