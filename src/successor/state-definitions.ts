import type { AttachedServer } from '../attached-server.js'
import type { StateDefinition } from '../channel/messages.js'
import type { Installation } from '../installation.js'

/** What this code says about carried names, for the predecessor to compare: under its own keys of the servers that are claimed. */
export function stateDefinitions({ carried, servers }: Installation, claimed: ReadonlyMap<string, AttachedServer>): StateDefinition[] {
  const states: StateDefinition[] = []
  const theirs = new Map([...claimed].map(([key, attached]) => [attached, key]))
  for (const attached of servers) {
    for (const [name, { version, migrate }] of carried.ofServer(attached.server)) {
      states.push({ scope: theirs.get(attached) ?? attached.key, name, version, migrates: migrate !== undefined })
    }
  }
  for (const [name, { version, migrate }] of carried.definitions())
    states.push({ scope: '', name, version, migrates: migrate !== undefined })
  return states
}
