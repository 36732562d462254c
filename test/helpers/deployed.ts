import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PATIENCE, Pm2 } from './pm2.js'
import { fixture, temporaryDirectory } from './process.js'

export interface Version {
  name: string
  boot?: string
  ready?: number
}

/** An application of which versions can be deployed, on two workers. */
export async function startDeployed(
  options: Record<string, unknown> = {},
  first: Version = { name: 'one' },
  mode: Record<string, unknown> = {},
) {
  const folder = temporaryDirectory()
  const [release, script] = [join(folder, 'release.json'), join(folder, 'app.cjs')]
  writeFileSync(join(folder, 'package.json'), '{}') // PM2 imports what is below a package.json of type "module", and then survives what that throws
  writeFileSync(script, `require(${JSON.stringify(fixture('plain/deployed.cjs'))})`)
  const deploy = (version: Version) => writeFileSync(release, JSON.stringify(version))
  deploy(first)
  const { env = { TSUNAGI_MOVE: 'all' }, ...rest } = options as { env?: Record<string, string>; instances?: number }
  const app = { script, instances: 2, exec_mode: 'cluster', listen_timeout: PATIENCE, ...rest }
  const pm2 = await Pm2.start({ ...app, env: { ...env, MODE: JSON.stringify({ ...mode, release }) } })
  const count = (event: string) => pm2.told.filter((told) => told.event === event).length
  await pm2.until('listening workers', () => (count('server listening') === app.instances ? true : undefined))
  return { pm2, deploy }
}
