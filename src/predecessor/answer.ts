import type { Message, MessageOf } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import type { TsunagiError } from '../errors.js'
import { counted, type HandoverReport } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { VERSION } from '../version.js'
import { freeze } from './freeze.js'
import { saveByHand } from './save-by-hand.js'

/** For a process of the same user that takes nothing over: it wants to know how things stand, or that something is done. */
export function answer(installation: Installation, { channel, credentials }: Peer, asked: MessageOf<'inquiry' | 'reload' | 'save'>): void {
  const own = process.geteuid?.() ?? 0
  if (credentials.uid !== own) {
    send({ type: 'refused', code: 'ERR_TSUNAGI_PEER', reason: `it runs as uid ${credentials.uid}, process ${process.pid} as uid ${own}` })
    return channel.close()
  }
  if (asked.type === 'inquiry') return send(statusOf(installation))
  if (asked.type === 'save') {
    saveByHand(installation).then(({ left, saved }) => {
      send({ type: 'saved', ...saved })
      installation.exit.trigger.endByHand(left)
    }, sendRefusal)
    return
  }
  installation
    .reload({
      env: asked.env,
      timeout: asked.timeout,
      ...(asked.canary && { canary: asked.canary.connections, watch: asked.canary.watch }),
    })
    .then(
      ({ successor, generation, moved, stayed, later }) =>
        send({ type: 'reloaded', successor, generation, moved, staying: stayed.map(inPairs), later: later.map(inPairs) }),
      sendRefusal,
    )

  function sendRefusal(error: TsunagiError & { output?: string }): void {
    send({ type: 'refused', code: error.code ?? 'ERR_TSUNAGI_REFUSED', reason: error.message.slice(0, 4000) }, error.output)
  }

  function send(message: Message, output = ''): void {
    try {
      if (!channel.closed) channel.send(message, { segments: output ? [Buffer.from(output)] : [] })
    } catch (error) {
      channel.close(error as Error) // who asked has not waited for the answer
    }
  }
}

function inPairs({ reason, connections }: HandoverReport['stayed'][number]): [string, number] {
  return [reason, connections]
}

/** What a handover would do now, if the next version is as this one. */
function statusOf(installation: Installation): MessageOf<'status'> {
  const { desk, lifecycle, generation, env, servers } = installation
  const claimed = new Set([...servers].map(({ key }) => key).filter(Boolean))
  const scope = { claimed, whyUnmigratable: () => undefined, only: undefined, limit: Number.POSITIVE_INFINITY, more: 0, isRehearsal: true }
  const { moving, staying } = freeze(installation, scope)
  const state = lifecycle.retiring.aborted ? 'retired' : desk.busyWith ? 'handing over' : lifecycle.isOwner ? 'serving' : 'taking over'
  return {
    type: 'status',
    pid: process.pid,
    version: VERSION,
    node: process.version,
    program: process.argv[1] ?? '',
    name: env.environment['TSUNAGI_NAME'] ?? '',
    uptime: Math.round(process.uptime()),
    generation,
    state,
    listeners: [...claimed],
    moving: counted(moving.map(({ rule }) => rule)),
    staying: counted(staying.map(({ reason }) => reason)),
  }
}
