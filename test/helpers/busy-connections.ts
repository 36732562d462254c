/** What a connection of fixtures/cold-clients.mjs is in the middle of, to which address, and how many bytes go each way. */
interface Group {
  readonly kind: string
  readonly host: string
  readonly toServer?: number
  readonly toClient?: number
}

/** One connection in every state that a connection can be in, to each of these addresses. */
export function busyConnections(hosts: readonly string[] = ['127.0.0.1', '::1']): Group[] {
  return STATES.flatMap((state) => hosts.map((host) => ({ ...state, host })))
}

const STATES = [
  { kind: 'idle', toServer: 1_000 },
  { kind: 'unread', toServer: 3_000_000 },
  { kind: 'unsent', toServer: 1_000, toClient: 5_000_000 },
  { kind: 'both', toServer: 2_000_000, toClient: 2_000_000 },
  { kind: 'ended by the client', toServer: 50_000, toClient: 100 },
  { kind: 'ended by the server', toServer: 50_000, toClient: 50_000 },
  { kind: 'echo' },
]
