import { readFileSync } from 'node:fs'

/**
 * Why a connection tracker of this network namespace would drop all that belongs to connections which were restored here and which it has never seen. It picks them up when this side
 * speaks first, unless it is told to know only what began with a SYN.
 * @note nf_conntrack_tcp_loose: Documentation/networking/nf_conntrack-sysctl.rst. The file is there only where the tracker is loaded.
 */
export function whyConntrackRefuses(environment: NodeJS.ProcessEnv): string | undefined {
  if (environment['TSUNAGI_CONNTRACK'] === 'replicated') return undefined
  let loose: string
  try {
    loose = readFileSync('/proc/sys/net/netfilter/nf_conntrack_tcp_loose', 'latin1')
  } catch {
    return undefined // no tracker
  }
  if (loose.trim() !== '0') return undefined
  return 'net.netfilter.nf_conntrack_tcp_loose is 0 here, so a firewall that tracks connections would drop every packet of connections that it has never seen; set it to 1, or replicate the entries and say so by TSUNAGI_CONNTRACK=replicated'
}
