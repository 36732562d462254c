import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** A version of Node to run programs with. */
export interface NodeBinary {
  /** Major version. */
  readonly major: string
  readonly path: string
}

/** This process's Node and those that `npm run nodes` installs. */
export const NODES: readonly NodeBinary[] = [
  { major: process.versions.node.split('.')[0] as string, path: process.execPath },
  ...['22', '24', '26'].map((major) => ({
    major,
    path: fileURLToPath(new URL(`../nodes/node_modules/node${major}/bin/node`, import.meta.url)),
  })),
]

/** What is missing of them, in words; empty: nothing. */
export function missingNodes(): string {
  const missing = NODES.filter(({ path }) => !existsSync(path)).map(({ major }) => major)
  return missing.length > 0 ? `Node ${missing.join(', ')} is not installed for the tests: run \`npm run nodes\`` : ''
}
