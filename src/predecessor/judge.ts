import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { Installation } from '../installation.js'
import type { Protocol } from '../protocols/protocol.js'
import type { Scope } from './freeze.js'

/** What becomes of one connection: it moves, by the rule that asked for it; or it stays, with the reason and what happens to it then. */
export type Verdict = { readonly rule: string; readonly protocol: Protocol } | { readonly reason: string; readonly fate: Fate }

/** 'later': it moves by itself once what is in the way has passed. */
export type Fate = 'drain' | 'close' | 'later'

/** Decides for one connection. What cannot be moved safely stays, then what the application wants counts, then whether anybody asked. */
export function judge(
  installation: Installation,
  attached: AttachedServer,
  socket: Socket,
  { whyUnmigratable, isRehearsal }: Pick<Scope, 'whyUnmigratable' | 'isRehearsal'>,
): Verdict {
  const { carried, holds, env } = installation
  const protocol = installation.protocols.of(socket, attached)
  if (protocol === undefined) return drains('its protocol is not known')
  const obstacle = protocol.obstacleOf(socket)
  if (obstacle && !obstacle.passes) return drains(obstacle.reason)
  if (carried.hasConnectionState) {
    for (const [name, { version }] of carried.everythingOf(socket)) {
      const why = whyUnmigratable(name, version)
      if (why) return drains(why)
    }
  }
  try {
    const decision = isRehearsal ? 'move' : attached.options.policy(socket)
    if (decision === 'close') return { reason: 'policy: close', fate: 'close' }
    if (decision !== 'move') return drains('policy: drain')
  } catch (error) {
    env.log(`policy() threw for a connection, which drains: ${String(error)}`)
    return drains('policy threw')
  }
  const rule = ruleFor(installation, attached, protocol, socket)
  if (rule === undefined) return drains(nobodyAsked(protocol))
  if (obstacle) return { reason: obstacle.reason, fate: 'later' }
  return holds.isHeld(socket) ? { reason: 'defer() holds it', fate: 'later' } : { rule, protocol }
}

/** A connection of a server that never heard of handovers may stand for state that the next process does not have: somebody has to ask. */
function ruleFor(
  { carried, resumption, moveRule }: Installation,
  attached: AttachedServer,
  protocol: Protocol,
  socket: Socket,
): string | undefined {
  if (protocol.kind === undefined) return protocol.name
  if (attached.asked) return 'attach'
  if (carried.asksFor(socket)) return 'carry'
  if (resumption.hasAsked(socket)) return 'isResumed'
  if (protocol.hasAsked?.(socket)) return 'isResumed'
  return moveRule.asksFor(protocol.kind)
}

function drains(reason: string): Verdict {
  return { reason, fate: 'drain' }
}

function nobodyAsked({ kind }: Protocol): string {
  return `nobody asked for it to move (TSUNAGI_MOVE=${kind}, or carry or isResumed in its handler)`
}
