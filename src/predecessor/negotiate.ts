import { type MessageOf, PROTOCOL, type StateDefinition } from '../channel/messages.js'
import { areSiblings, isSameFamily } from '../channel/rendezvous.js'
import type { ErrorCode } from '../errors.js'
import type { Installation } from '../installation.js'
import type { PeerCredentials } from '../native/native.js'
import { VERSION } from '../version.js'

/** Why a successor is turned away. `RELATED` is answered as if nobody were here. */
export interface Refusal {
  code: ErrorCode | 'RELATED'
  reason: string
}

/** Everything that is checked before a first byte of ours goes to another process. `isHere`: whether what it asks for is ours. */
export function refusalOfHello(
  { desk, lifecycle, place, lent }: Installation,
  { uid, pid }: PeerCredentials,
  hello: MessageOf<'hello'>,
  isHere: boolean,
): Refusal | undefined {
  const own = process.geteuid?.() ?? 0
  if (uid !== own) return { code: 'ERR_TSUNAGI_PEER', reason: `it runs as uid ${uid}, process ${process.pid} as uid ${own}` }
  // A process that a reload has spawned is a child, and says so by the token it was given.
  if (!desk.expects(hello.token) && (pid === process.pid || isSameFamily(pid, process.pid))) {
    return { code: 'RELATED', reason: 'it is a parent or child of the process that listens there' }
  }
  if (hello.address === place && !areSiblings(pid, process.pid)) return { code: 'RELATED', reason: 'it is no worker of the same primary' }
  if (hello.protocolMin > PROTOCOL.max || hello.protocolMax < PROTOCOL.min) {
    return {
      code: 'ERR_TSUNAGI_PROTOCOL',
      reason: `it speaks protocol ${hello.protocolMin} to ${hello.protocolMax} (tsunagi ${hello.version}), process ${process.pid} speaks ${PROTOCOL.min} to ${PROTOCOL.max} (tsunagi ${VERSION})`,
    }
  }
  const { busyWith } = desk
  if (busyWith) return { code: 'ERR_TSUNAGI_BUSY', reason: `process ${busyWith.pid} is taking over from process ${process.pid} just now` }
  if (!lifecycle.isOwner && hello.address !== lent?.key) {
    return { code: 'ERR_TSUNAGI_BUSY', reason: `process ${process.pid} has not taken over yet itself, or has just handed over` }
  }
  if (!isHere) return { code: 'RELATED', reason: 'this process does not listen there any more' }
  return undefined
}

export function agreedProtocol(hello: MessageOf<'hello'>): number {
  return Math.min(PROTOCOL.max, hello.protocolMax)
}

/** Server-wide state in a version that the new code cannot take, or in a mode that would tear it, refuses the whole handover before anything is frozen. */
export function refusalOfStates(
  { servers, carried }: Installation,
  { states, mode, canary }: MessageOf<'ready'>,
  isCanary: boolean,
): Refusal | undefined {
  if (isCanary && canary === undefined)
    return { code: 'ERR_TSUNAGI_PROTOCOL', reason: 'a canary is wished for, and the new version has a tsunagi that knows nothing of it' }

  for (const attached of servers) {
    for (const [name, { version }] of carried.ofServer(attached.server)) {
      const theirs = states.find((state) => state.scope === attached.key && state.name === name)
      if (theirs && theirs.version !== version && !theirs.migrates) {
        return {
          code: 'ERR_TSUNAGI_STATE_VERSION',
          reason: `the server at ${attached.key} carries ${JSON.stringify(name)} in version ${version}, the new code declares version ${theirs.version} and no migrate function`,
        }
      }
      if (mode === 'rolling' || isCanary) {
        return {
          code: 'ERR_TSUNAGI_ROLLING_STATE',
          reason: `the server at ${attached.key} carries ${JSON.stringify(name)} for all its connections, which cannot be in two processes at once: use ${isCanary ? 'no canary' : 'TSUNAGI_MODE=atomic'}`,
        }
      }
    }
  }
  return undefined
}

/** Why the new code cannot take what a connection carries under `name` in `version`; `undefined`: it can. */
export type WhyUnmigratable = (name: string, version: number) => string | undefined

/** Answers from what the successor has declared; a name that it does not declare counts as version 0. */
export function whyUnmigratable(states: readonly StateDefinition[]): WhyUnmigratable {
  const declared = new Map(states.filter(({ scope }) => scope === '').map((state) => [state.name, state]))
  return (name, version) => {
    const theirs = declared.get(name) ?? { version: 0, migrates: false }
    if (version === theirs.version || theirs.migrates) return undefined
    return `it carries ${JSON.stringify(name)} in version ${version}, the new code declares version ${theirs.version} and no migrate function`
  }
}
