import { Server, Socket } from 'node:net'
import { misuse, TsunagiError } from '../errors.js'

/** How a carried name is declared by this code. */
export interface CarryOptions<T = unknown> {
  /** Version of the value's shape: an integer from 0. @default 0 */
  version?: number
  /** Turns a value of another version, older or newer, into one of this version. Without it, only this version is taken. */
  migrate?: (value: unknown, fromVersion: number) => T
}

export interface Definition {
  version: number
  migrate: ((value: unknown, fromVersion: number) => unknown) | undefined
}

/** A value with the version of its shape. */
export interface Versioned {
  version: number
  value: object
}

/** One live value that goes along at a handover. */
export type Carried = Definition & Versioned

/** Everything that this process carries: what servers hold together, what each connection holds, and what came with a connection and waits to be asked for. */
export class CarriedState {
  readonly #servers = new Map<Server, Map<string, Carried>>()
  readonly #sockets = new WeakMap<Socket, Map<string, Carried>>()
  readonly #arrived = new WeakMap<Socket, Map<string, Versioned>>()
  /** Whether any connection has ever carried anything. */
  hasConnectionState = false
  readonly #definitions = new Map<string, Definition>()

  /** Declares what connections carry under `name`, so that its version is known before the freeze. */
  /** Told of what carries something from now on. */
  onCarry: ((scope: Server | Socket) => void) | undefined

  define(name: string, options: CarryOptions): void {
    this.#definitions.set(name, definitionOf(name, options))
  }

  carry<T extends object>(scope: Server | Socket, name: string, init: () => T, options: CarryOptions<T>): T {
    const own = this.#ofScope(scope)
    const present = own.get(name)
    if (present) return present.value as T
    const definition = scope instanceof Socket ? this.#definitionFor(name, options) : definitionOf(name, options)
    const value = (scope instanceof Socket ? this.#take(scope, name, definition) : undefined) ?? init()
    if (!isContainer(value)) {
      throw misuse(
        'ERR_TSUNAGI_CARRY',
        `carry(…, ${JSON.stringify(name)}) carries a plain object, array, Map or Set; its initial value is ${typeof value}.`,
      )
    }
    if (scope instanceof Socket) this.hasConnectionState = true
    own.set(name, { ...definition, value })
    this.onCarry?.(scope)
    return value as T
  }

  ofServer(server: Server): Iterable<[string, Carried]> {
    return this.#servers.get(server) ?? []
  }

  /** What goes along with a connection: what its application carries, and what came with it and nobody has asked for yet. */
  *everythingOf(socket: Socket): Iterable<[string, Versioned]> {
    yield* this.#sockets.get(socket) ?? []
    yield* this.#arrived.get(socket) ?? []
  }

  hasServerState(servers: Iterable<Server>): boolean {
    for (const server of servers) if (this.#servers.get(server)?.size) return true
    return false
  }

  isCarried(socket: Socket, name: string): boolean {
    return this.#sockets.get(socket)?.has(name) === true
  }

  /** What was carried for one request of a connection is of no use to the next. */
  drop(socket: Socket, name: string): void {
    const own = this.#sockets.get(socket)
    if (own?.delete(name) && own.size === 0) this.#sockets.delete(socket)
  }

  /** Whether the application carries something for this connection, which shows that it knows of handovers. */
  asksFor(socket: Socket): boolean {
    return this.#sockets.has(socket)
  }

  /** Names and versions of what connections carry in this process, as declared. */
  definitions(): Iterable<[string, Definition]> {
    return this.#definitions
  }

  definition(name: string): Definition | undefined {
    return this.#definitions.get(name)
  }

  serverDefinition(server: Server, name: string): Carried | undefined {
    return this.#servers.get(server)?.get(name)
  }

  /** Leaves a value that came with a connection where `carry` will find it. */
  arrive(socket: Socket, name: string, arrived: Versioned): void {
    this.hasConnectionState = true
    let values = this.#arrived.get(socket)
    if (!values) {
      values = new Map()
      this.#arrived.set(socket, values)
    }
    values.set(name, arrived)
  }

  /** What came with a connection under `name`, in the version this code wants. Throws ERR_TSUNAGI_STATE_VERSION, ERR_TSUNAGI_MIGRATE. */
  #take(socket: Socket, name: string, { version, migrate }: Definition): object | undefined {
    const values = this.#arrived.get(socket)
    const arrived = values?.get(name)
    if (arrived === undefined) return undefined
    values?.delete(name)
    if (arrived.version === version) return arrived.value
    if (migrate === undefined) {
      throw new TsunagiError(
        'ERR_TSUNAGI_STATE_VERSION',
        `This connection carries ${JSON.stringify(name)} in version ${arrived.version}, and this code has version ${version} without a migrate function. Declare it with carry.define(${JSON.stringify(name)}, { version, migrate }) at module level: then such connections drain instead.`,
        { phase: 'resume' },
      )
    }
    return migrate(arrived.value, arrived.version) as object
  }

  #ofScope(scope: Server | Socket): Map<string, Carried> {
    const map: { get(key: object): Map<string, Carried> | undefined; set(key: object, value: Map<string, Carried>): unknown } =
      scope instanceof Socket ? (this.#sockets as never) : (this.#servers as never)
    let own = map.get(scope)
    if (!own) {
      own = new Map()
      map.set(scope, own)
    }
    return own
  }

  #definitionFor(name: string, options: CarryOptions): Definition {
    if (options.version === undefined && options.migrate === undefined) return this.#definitions.get(name) ?? definitionOf(name, options)
    const definition = definitionOf(name, options)
    if (!this.#definitions.has(name)) this.#definitions.set(name, definition)
    return definition
  }
}

/** Checks the arguments of `carry`; throws a TypeError ERR_TSUNAGI_CARRY. */
export function checkScope(scope: unknown, name: unknown): asserts scope is Server | Socket {
  if (!(scope instanceof Server) && !(scope instanceof Socket)) {
    throw misuse(
      'ERR_TSUNAGI_CARRY',
      'carry(scope, name, init) carries for a net.Server or for a connection: a net.Socket, a request, a response or a WebSocket. Its first argument is neither.',
    )
  }
  if (typeof name !== 'string' || name === '' || name.length > 200) {
    throw misuse('ERR_TSUNAGI_CARRY', 'The name in carry(scope, name, init) is a string of 1 to 200 characters.')
  }
}

function definitionOf(name: string, { version = 0, migrate }: CarryOptions): Definition {
  if (!Number.isSafeInteger(version) || version < 0) {
    throw misuse('ERR_TSUNAGI_CARRY', `The version of ${JSON.stringify(name)} is an integer from 0, not ${String(version)}.`)
  }
  if (migrate !== undefined && typeof migrate !== 'function') {
    throw misuse(
      'ERR_TSUNAGI_CARRY',
      `migrate of ${JSON.stringify(name)} is a function (value, fromVersion) => value, not ${typeof migrate}.`,
    )
  }
  return { version, migrate: migrate as Definition['migrate'] }
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}
