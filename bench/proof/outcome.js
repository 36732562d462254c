import { count, spreadText } from './table.js'

/** Everything that must not have happened, in words; none: the proof holds. */
export function failures(outcome) {
  const { packets, tcp, left } = outcome
  const inNamespace = packets !== undefined || left.inNamespace !== undefined
  return [
    ...outcome.faults.slice(0, 20),
    ...(outcome.faults.length > 20 ? [`and ${outcome.faults.length - 20} clients more`] : []),
    outcome.lost > 0 && `${count(outcome.lost)} bytes were lost`,
    outcome.duplicated > 0 && `${count(outcome.duplicated)} bytes came twice`,
    outcome.wrong > 0 && `${count(outcome.wrong)} bytes were wrong`,
    outcome.seenByClients > 0 && `${outcome.seenByClients} ends or errors were seen by clients`,
    packets?.fin > 0 && `the kernel counted ${packets.fin} FIN of the server`,
    packets?.rst > 0 && `the kernel counted ${packets.rst} RST on its port`,
    inNamespace && tcp.OutRsts > 0 && `the kernel sent ${tcp.OutRsts} RST`,
    outcome.moved < outcome.expectedMoves && `${outcome.moved} connections moved, ${outcome.expectedMoves} should have`,
    ...outcome.tooLittle.map((what) => `a reload moved less than planned: ${what}`),
    ...outcome.newcomersFailed.slice(0, 5).map((reason) => `a new connection failed: ${reason}`),
    left.processes > 0 && `${left.processes} processes were left`,
    left.inNamespace > 0 && `${left.inNamespace} processes were left in the network namespace`,
    left.fds > 0 && `${left.fds} descriptors were left in the server`,
    left.socketFiles > 0 && `${left.socketFiles} socket files were left of predecessors`,
    left.filesAtTheEnd > 0 && `${left.filesAtTheEnd} files were left at the end`,
    left.exitCode !== 0 && `the last server left with code ${left.exitCode}`,
  ].filter(Boolean)
}

export function rows(outcome) {
  const { packets, tcp, left, pause, steady, reloadSeconds } = outcome
  return [
    [
      'reloads',
      `${outcome.reloads} in ${outcome.seconds.toFixed(0)} s, each ${spreadText(reloadSeconds)} s from start to exit (p50 / p99 / max)`,
    ],
    ['connections', `${outcome.clients}, moved ${count(outcome.moved)} times; ${count(outcome.stalls)} stalls`],
    ['new connections', `${count(outcome.newcomers)} answered, ${outcome.newcomersFailed.length} failed`],
    ['bytes', `${count(outcome.bytes)}; ${count(outcome.unreadBytes)} moved unread, ${count(outcome.unsentBytes)} unsent`],
    ['lost', count(outcome.lost)],
    ['duplicated', count(outcome.duplicated)],
    ['wrong', count(outcome.wrong)],
    [
      'FIN',
      packets
        ? `${packets.fin} (nftables, packets of the server)`
        : `${outcome.end} (seen by clients; the kernel counts FIN only with nftables in a namespace of its own)`,
    ],
    ['RST', packets ? `${Math.max(packets.rst, tcp.OutRsts)} (nftables on its port; OutRsts)` : rstText(outcome)],
    ['seen by clients', `${outcome.seenByClients} ends or errors`],
    ['pause, reload', `${spreadText(pause)} ms (p50 / p99 / max of each client's longest round trip in each reload)`],
    ['pause, steady', `${spreadText(steady)} ms (the same between reloads)`],
    ['stood still', `${spreadText(outcome.stoodStill)} ms (from the successor's report: receive, restore, commit, resume)`],
    ...(outcome.stayed.length > 0 ? [['stayed behind', outcome.stayed.join('; ')]] : []),
    ['retransmissions', count(tcp.RetransSegs)],
    [
      'leftovers',
      `${left.processes + (left.inNamespace ?? 0)} processes, ${left.fds} descriptors, ${left.socketFiles + left.filesAtTheEnd} socket files` +
        (left.inNamespace === undefined ? '' : ', no network namespace'),
    ],
  ]
}

function rstText({ reset, tcp, left }) {
  if (left.inNamespace !== undefined) return `${tcp.OutRsts} (OutRsts)`
  return `${reset} (seen by clients; OutRsts of the whole host: ${tcp.OutRsts})`
}
