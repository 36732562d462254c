import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { Installation } from '../installation.js'
import { obstacleOf } from '../protocols/raw.js'
import type { Scope } from './freeze.js'

/** What becomes of one connection: it moves, by the rule that asked for it; or it stays, with the reason and what happens to it then. */
export type Verdict = { readonly rule: string } | { readonly reason: string; readonly fate: Fate }

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
  if (attached.kind !== 'raw') return drains(attached.kind === 'http' ? 'HTTP connections drain' : 'TLS and HTTP/2 connections drain')
  const obstacle = obstacleOf(socket)
  if (obstacle) return { reason: obstacle.reason, fate: obstacle.passes ? 'later' : 'drain' }
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
  const rule = ruleFor(installation, attached, socket)
  if (rule === undefined) return drains(NOBODY_ASKED)
  return holds.isHeld(socket) ? { reason: 'defer() holds it', fate: 'later' } : { rule }
}

/** A connection of a server that never heard of handovers may stand for state that the next process does not have: somebody has to ask. */
function ruleFor({ carried, resumption, moveRule }: Installation, attached: AttachedServer, socket: Socket): string | undefined {
  if (attached.asked) return 'attach'
  if (carried.asksFor(socket)) return 'carry'
  if (resumption.hasAsked(socket)) return 'isResumed'
  return moveRule.asksFor('raw')
}

function drains(reason: string): Verdict {
  return { reason, fate: 'drain' }
}

const NOBODY_ASKED = 'nobody asked for it to move (TSUNAGI_MOVE=raw, or carry or isResumed in its handler)'
