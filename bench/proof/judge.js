/**
 * Compares what the clients saw with what the sessions in the last server say: both ends counted and hashed for themselves.
 * What a stream's sender says it sent has to be what its receiver got, to the last byte.
 */
export function judge(clients, sessions) {
  const byId = new Map(sessions.map((session) => [session.id, session]))
  const total = { bytes: 0, lost: 0, duplicated: 0, wrong: 0, end: 0, reset: 0, unfinished: 0, faults: [] }
  for (const client of clients) {
    const session = byId.get(client.id)
    total.bytes += client.sent + client.received
    total.lost += client.lost
    total.duplicated += client.repeated
    total.wrong += client.wrong
    total.end += client.unexpected.filter((event) => event === 'end').length
    total.reset += client.unexpected.filter((event) => event !== 'end').length
    if (client.outcome === 'unfinished') total.unfinished++
    const said = faultsOf(client, session)
    for (const fault of said) total.faults.push(`${client.kind} ${client.id}: ${fault}`)
    if (session) {
      total.lost += Math.max(0, client.sent - session.received)
      total.duplicated += Math.max(0, session.received - client.sent)
    }
    // What the server has sent and never arrived: of an echo it is what was sent to it.
    const owed = isStreamedTo(client) ? (session?.sent ?? 0) : client.kind === 'upload' ? 0 : client.sent
    total.lost += Math.max(0, owed - client.position)
  }
  return total
}

function faultsOf(client, session) {
  const faults = []
  if (client.outcome !== 'finished') faults.push(`saw ${client.outcome}`)
  if (client.lost + client.repeated + client.wrong > 0) {
    faults.push(`${client.lost} bytes lost, ${client.repeated} repeated, ${client.wrong} wrong on the way to it`)
  }
  if (session === undefined) return [...faults, 'the server does not know its session']
  if (isStreamedTo(client)) {
    if (session.sent !== client.received || session.sentHash !== client.receivedHash) {
      faults.push(
        `the server sent ${session.sent} bytes, ${client.received} arrived, hashes ${agree(session.sentHash, client.receivedHash)}`,
      )
    }
    return faults
  }
  if (session.received !== client.sent || session.receivedHash !== client.sentHash) {
    faults.push(`it sent ${client.sent} bytes, ${session.received} arrived, hashes ${agree(session.receivedHash, client.sentHash)}`)
  }
  if (client.kind !== 'upload' && (client.received !== client.sent || client.receivedHash !== client.sentHash)) {
    faults.push(`it sent ${client.sent} bytes, ${client.received} came back, hashes ${agree(client.receivedHash, client.sentHash)}`)
  }
  return faults
}

const isStreamedTo = ({ kind }) => kind === 'firehose' || kind === 'greedy'
const agree = (a, b) => (a === b ? 'agree' : 'differ')
