/** Which client does what. The ping-pong is played in a process of its own, so that checking streams does not slow it. */

/** Two in five play ping-pong, a quarter is echoed, a fifth is streamed to; the rest is half-closed, by the client or by the server. */
export function mixed(clients) {
  return mix(clients, (id) => {
    const share = (id * 61) % 100
    if (share < 40) return { id, kind: 'pingpong', pingEvery: 10 }
    if (share < 65) return { id, kind: 'bulk' }
    if (share < 85) return { id, kind: 'firehose' }
    return share < 93 ? { id, kind: 'firehose', halfClosed: true } : { id, kind: 'upload' }
  })
}

/** One in ten has sent what the server does not read, one in a hundred does not read what the server wrote at once; the others are echoed. */
export function big(clients) {
  return mix(clients, (id) => {
    if (id % 100 === 1) return { id, kind: 'greedy', bytes: 20 * 1024 * 1024 }
    return id % 10 === 2 ? { id, kind: 'held', bytes: 200_000 } : { id, kind: 'pingpong', pingEvery: 250 }
  })
}

/** What each reload has to have moved at least of such a mix, so that the proof is about what it says. */
export const leastOfBig = (clients) => ({ unreadBytes: (clients / 10) * 16_384, unsentBytes: (clients / 100) * 8_000_000 })

function mix(clients, specOf) {
  const specs = Array.from({ length: clients }, (_, index) => specOf(index + 1))
  return { pingpong: specs.filter(({ kind }) => kind === 'pingpong'), streams: specs.filter(({ kind }) => kind !== 'pingpong') }
}
