import { execFileSync } from 'node:child_process'

/** These tests run dist, not src: an old build would pass or fail for the wrong reason. */
export default function requireFreshBuild(): void {
  execFileSync(process.execPath, ['scripts/build.mjs', '--check'], { stdio: ['ignore', 'inherit', 'inherit'] })
}
