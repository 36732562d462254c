import type { Channel } from '../channel/channel.js'
import type { Received } from '../channel/codec.js'
import { ERROR_CODES, type ErrorCode, TsunagiError } from '../errors.js'
import { isRunning } from '../handover/is-alive.js'

/**
 * One answer in a look-up; `undefined`: none came. A process that is stopped gives none for now; one that runs is only busy, perhaps because the whole machine
 * is, and is waited for. Blocks.
 */
export function awaitAnswer(channel: Channel, pid: number): Received | undefined {
  return channel.receive(LOOKUP_TIMEOUT) ?? (isRunning(pid) ? channel.receive(BUSY_TIMEOUT) : undefined)
}

/** What a server emits when the predecessor does not hand over. */
export function refusedError(code: string, reason: string, address: string): TsunagiError {
  const known = Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'ERR_TSUNAGI_REFUSED'
  const next = known === 'ERR_TSUNAGI_BUSY' ? ' Start it again once that is done.' : ' The predecessor goes on serving.'
  return new TsunagiError(known, `The handover of ${address} was refused: ${reason}.${next}`, { phase: 'negotiate', serving: true })
}

/** The same for one that says nothing. */
export function silent(address: string, pid: number): TsunagiError {
  return new TsunagiError(
    'ERR_TSUNAGI_LOOKUP',
    `${address} is held by process ${pid}, which did not answer within ${isRunning(pid) ? LOOKUP_TIMEOUT + BUSY_TIMEOUT : LOOKUP_TIMEOUT} ms. It is stopped or very busy: start again, or end it.`,
    { phase: 'negotiate', serving: true },
  )
}

/** Milliseconds that `listen()` may block for one answer of the predecessor. */
export const LOOKUP_TIMEOUT = 2_000
/** And as many more where it runs. */
const BUSY_TIMEOUT = 8_000
