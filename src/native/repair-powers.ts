import type { Env } from '../env.js'
import type { Native } from './native.js'
import { helperPowers } from './repair-helper.js'

/**
 * What of the addon needs CAP_NET_ADMIN, and CAP_NET_RAW where it injects: whoever saves and restores connections takes these from here, so that a
 * helper process may have the capability instead of the server. Everything else about a socket in repair mode (`dumpConnections`,
 * `connectionTuples`, `closeFds`) asks for no privilege.
 */
export type RepairPowers = Pick<Native, (typeof REPAIR_POWERS)[number]>

export const REPAIR_POWERS = [
  'enterRepair',
  'leaveRepair',
  'restoreConnections',
  'announceConnections',
  'kickPeers',
  'holdCreate',
  'holdAdd',
  'holdRelease',
  'holdList',
] as const satisfies readonly (keyof Native)[]

/** This process's own, or those of the helper that `TSUNAGI_HELPER` names by the path of its socket. */
export function repairPowers({ native, environment }: Pick<Env, 'native' | 'environment'>): RepairPowers {
  const helper = environment['TSUNAGI_HELPER']
  return helper ? helperPowers(native, helper) : native
}
