import type { Socket } from 'node:dgram'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { datagramKey } from './channel/rendezvous.js'
import { type DatagramBind, datagramFdOf, startReceiving, UDP_FLAG, watchBind } from './native/net-internals.js'

/** Who is asked for a bound UDP socket where its address is taken, and told when one of this process is bound. */
export interface DatagramKeeper {
  /** The predecessor's descriptor for this address, which the caller then owns; `undefined`: nobody hands it over. Never throws. */
  inheritDatagrams(key: string): number | undefined
  datagramsBound(key: string): void
  /** Whether this process is only tried, and nobody may reach it. */
  readonly isTrial: boolean
}

/**
 * The UDP sockets of this process that are bound to an address. One moves like a listener: by its descriptor, and with it what is queued in the kernel,
 * whom it is connected to, the groups it has joined and its options. Sockets on port 0, or that share their address (`reuseAddr`, `reusePort`, cluster
 * workers), never meet a successor and stay as ever.
 */
export class Datagrams {
  readonly #keeper: DatagramKeeper
  readonly #bound = new Map<string, Socket>()
  #lookups = 0

  constructor(keeper: DatagramKeeper) {
    this.#keeper = keeper
  }

  /** Calls of `bind()` that wait for the resolver. */
  get pending(): number {
    return this.#lookups
  }

  /** Takes in every UDP socket that is made from now on. Returns how to undo it. @note lib/dgram.js publishes each on `udp.socket`. */
  watch(): () => void {
    const channelOnSocket = (message: unknown) => this.#watch((message as { socket: Socket }).socket)
    subscribe('udp.socket', channelOnSocket)
    return () => void unsubscribe('udp.socket', channelOnSocket)
  }

  socketsAt(keys: ReadonlySet<string>): Map<string, Socket> {
    return new Map([...this.#bound].filter(([key]) => keys.has(key)))
  }

  keys(): string[] {
    return [...this.#bound.keys()]
  }

  /** Those of them that the application has not closed meanwhile. */
  open(keys: Iterable<string>): string[] {
    return [...keys].filter((key) => this.#bound.has(key))
  }

  fdAt(key: string): number {
    const socket = this.#bound.get(key)
    return socket ? datagramFdOf(socket) : -1
  }

  /** Those of a predecessor are this process's own from now on. */
  receive(keys: Iterable<string>): void {
    for (const key of keys) {
      const socket = this.#bound.get(key)
      if (socket) startReceiving(socket)
    }
  }

  /** The predecessor keeps them: here they come to an end, as a server does that does not get its listener. */
  giveUp(keys: Iterable<string>, error: Error): void {
    for (const key of keys) {
      const socket = this.#bound.get(key)
      socket?.close()
      socket?.emit('error', error)
    }
  }

  /** Another process serves: what nobody claimed receives until this one ends, and does not keep it from that. */
  unref(): void {
    for (const socket of this.#bound.values()) socket.unref()
  }

  #watch(socket: Socket): void {
    watchBind(socket, {
      isUnreachable: () => this.#keeper.isTrial,
      lookup: () => {
        this.#lookups++
        return () => void this.#lookups--
      },
      bound: (at) => {
        const key = keyOf(socket, at)
        if (key === undefined) return
        this.#add(key, socket)
        this.#keeper.datagramsBound(key)
      },
      taken: (at) => {
        const key = keyOf(socket, at)
        const fd = key === undefined ? undefined : this.#keeper.inheritDatagrams(key)
        if (key !== undefined && fd !== undefined) this.#add(key, socket)
        return fd
      },
    })
  }

  #add(key: string, socket: Socket): void {
    this.#bound.set(key, socket)
    socket.once('close', () => {
      if (this.#bound.get(key) === socket) this.#bound.delete(key)
    })
  }
}

function keyOf({ type }: Socket & { type?: string }, { address, port, flags }: DatagramBind): string | undefined {
  if (port === 0 || flags & (UDP_FLAG.reuseAddress | UDP_FLAG.reusePort)) return undefined
  return datagramKey(type === 'udp6' ? 'IPv6' : 'IPv4', address, port, (flags & UDP_FLAG.ipv6Only) !== 0)
}
