import { OwnNetwork } from './own-network.js'
import { fixture } from './process.js'

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

  async host(): Promise<OwnNetwork> {
    const host = await this.bridge.neighbour()
    const number = ++this.#hosts
    await this.bridge.shell(`
      ip link add port${number} type veth peer name e0 netns ${host.pid}
      ip link set port${number} master br0 up`)
    await host.shell(`
      ip addr add 10.77.0.${number}/24 dev e0
      ip addr add fd77::${number}/64 dev e0 nodad
      ip link set e0 up`)
    return host
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
