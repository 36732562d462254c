import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { onTestFinished } from 'vitest'
import { OwnNetwork } from './own-network.js'
import { fixture } from './process.js'

/** How bad the cable of a host is. */
export interface Cable {
  /** The share of frames that is lost, in both directions. */
  loss: number
  delayMs: number
}

/**
 * Hosts, each a network namespace, on one Ethernet: a bridge in a namespace of its own. Host number n has the interface e0 with the addresses
 * 10.77.0.n and fd77::n; ARP and neighbour discovery between them are the kernel's own.
 */
export class Ethernet {
  readonly bridge: OwnNetwork
  #hosts = 0

  private constructor(bridge: OwnNetwork) {
    this.bridge = bridge
  }

  static async make(kind?: 'root' | 'user'): Promise<Ethernet> {
    const bridge = await OwnNetwork.make(kind)
    await bridge.shell('ip link add br0 type bridge && ip link set br0 up')
    return new Ethernet(bridge)
  }

  async host(cable?: Cable): Promise<OwnNetwork> {
    const host = await this.bridge.neighbour()
    const n = ++this.#hosts
    await this.bridge.shell(`ip link add port${n} type veth peer name e0 netns ${host.pid} && ip link set port${n} up`)
    if (cable) await this.#join(`port${n}`, `bad${n}`, cable)
    else await this.bridge.shell(`ip link set port${n} master br0`)
    await host.shell(`
      ip addr add 10.77.0.${n}/24 dev e0
      ip addr add fd77::${n}/64 dev e0 nodad
      ip link set e0 up`)
    return host
  }

  /** Through a pair of interfaces of which one is a port of the bridge: what passes from the host's to the other is up to a program. */
  async #join(port: string, name: string, { loss, delayMs }: Cable): Promise<void> {
    await this.bridge.shell(`
      ip link add ${name} type veth peer name ${name}b
      ip link set ${name} up && ip link set ${name}b up && ip link set ${name}b master br0`)
    const [program = '', ...args] = [...this.bridge.enter, 'python3', fixture('lossy.py'), port, name, String(loss), String(delayMs)]
    await ready(spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] }))
  }
}

/** An address that goes from host to host. */
export const SHARED = { ipv4: '10.77.0.100', ipv6: 'fd77::100' }

/** A host has the shared address from now on, and tells its neighbours. */
export async function takeAddress(host: OwnNetwork): Promise<void> {
  await host.shell(`
    ip addr add ${SHARED.ipv4}/32 dev e0
    ip addr add ${SHARED.ipv6}/128 dev e0 nodad
    python3 ${fixture('announce.py')} e0 ${SHARED.ipv4} ${SHARED.ipv6}`)
}

export async function dropAddress(host: OwnNetwork): Promise<void> {
  await host.shell(`ip addr del ${SHARED.ipv4}/32 dev e0; ip addr del ${SHARED.ipv6}/128 dev e0`)
}

async function ready(child: ChildProcess): Promise<void> {
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line')
}
