import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { childrenOf, temporaryDirectory } from './process.js'

/**
 * A real systemd as process 1 of a pid namespace of its own, with its own /run and cgroup tree; the network and all other files are the test's. It is
 * booted in a fraction of a second, without D-Bus, and gone when the test is over. Its `directory` is at /run/box as well.
 */
export class SystemdBox {
  readonly directory: string
  readonly #pid: number

  private constructor(directory: string, pid: number) {
    this.directory = directory
    this.#pid = pid
  }

  /** With `usr`, the tree of another systemd is laid over /usr. */
  static async boot(usr = ''): Promise<SystemdBox> {
    const directory = temporaryDirectory()
    writeUnits(join(directory, 'units'))
    const inner = join(directory, 'inner.sh')
    writeFileSync(inner, INNER)
    chmodSync(inner, 0o755)
    const group = join(cgroupRoot(), `tsunagi-test-${process.pid}-${count++}`)
    mkdirSync(group)
    const script = `echo $$ > ${group}/cgroup.procs; exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child ${inner}`
    const unshare = spawn('sh', ['-c', script], {
      env: { ...process.env, BOX: directory, OVER_USR: usr },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const said: string[] = []
    for (const stream of [unshare.stdout, unshare.stderr]) stream?.on('data', (chunk) => said.push(String(chunk)))
    onTestFinished(async () => {
      unshare.kill('SIGKILL') // and with it everything in the box
      if (unshare.exitCode === null && unshare.signalCode === null) await once(unshare, 'exit')
      await removeGroup(group)
    })
    const pid = await untilBooted(unshare, said)
    const box = new SystemdBox(directory, pid)
    const state = await box.systemctl('is-system-running', '--wait')
    if (state.out.trim() !== 'running') throw new Error(`systemd is ${state.out}${state.err}\n${said.join('')}`)
    return box
  }

  /** Version of systemd in the box. */
  async version(): Promise<number> {
    const { out } = await this.run('systemctl', '--version')
    return Number(out.match(/systemd (\d+)/)?.[1])
  }

  async install(name: string, text: string): Promise<void> {
    mkdirSync(dirname(join(this.directory, 'units', name)), { recursive: true })
    writeFileSync(join(this.directory, 'units', name), text)
    await this.systemctl('daemon-reload')
  }

  systemctl(...args: string[]): Promise<{ code: number; out: string; err: string }> {
    return this.run('systemctl', ...args)
  }

  /** One property of a unit. */
  async show(unit: string, property: string): Promise<string> {
    return (await this.systemctl('show', '--value', '-p', property, unit)).out.trim()
  }

  /** Runs a command in the box that may not fail. */
  async must(...command: string[]): Promise<string> {
    const { code, out, err } = await this.run(...command)
    if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${out}${err}`)
    return out
  }

  /** Runs a command in the box. */
  async run(...command: string[]): Promise<{ code: number; out: string; err: string }> {
    const child = spawn('nsenter', ['-t', String(this.#pid), '-a', ...command], { stdio: ['ignore', 'pipe', 'pipe'] })
    let [out, err] = ['', '']
    child.stdout.on('data', (chunk) => {
      out += chunk
    })
    child.stderr.on('data', (chunk) => {
      err += chunk
    })
    const [code] = await once(child, 'close')
    return { code, out, err }
  }
}

async function untilBooted(unshare: ChildProcess, said: readonly string[]): Promise<number> {
  for (;;) {
    if (unshare.exitCode !== null) throw new Error(`systemd did not boot: ${said.join('')}`)
    const [pid] = childrenOf(unshare.pid as number)
    if (pid !== undefined && existsSync(`/proc/${pid}/root/run/systemd/private`)) return pid
    await delay(10)
  }
}

/** On a hybrid host the second version of cgroups is beside the first. */
function cgroupRoot(): string {
  return existsSync('/sys/fs/cgroup/unified') ? '/sys/fs/cgroup/unified' : '/sys/fs/cgroup'
}

/** A group can be removed when its last process has been waited for. */
async function removeGroup(group: string): Promise<void> {
  for (let attempt = 0; existsSync(group); attempt++) {
    try {
      for (const folder of foldersBelow(group)) rmdirSync(folder)
    } catch (error) {
      if (attempt > 200) throw error
      await delay(20)
    }
  }
}

/** The innermost first. */
function foldersBelow(folder: string): string[] {
  const inner = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return [...inner.flatMap(({ name }) => foldersBelow(join(folder, name))), folder]
}

/** The few that a boot and a shutdown need, and nothing of the host's. */
function writeUnits(folder: string): void {
  mkdirSync(folder)
  const targets = ['default', 'basic', 'sysinit', 'shutdown', 'umount', 'final', 'sockets', 'timers', 'paths', 'slices', 'local-fs', 'swap']
  for (const name of targets) writeFileSync(join(folder, `${name}.target`), '[Unit]\nDefaultDependencies=no\n')
  writeFileSync(
    join(folder, 'exit.target'),
    '[Unit]\nDefaultDependencies=no\nRequires=systemd-exit.service\nAfter=systemd-exit.service\nAllowIsolate=yes\n',
  )
  copyFileSync('/lib/systemd/system/systemd-exit.service', join(folder, 'systemd-exit.service'))
}

/** Runs as process 1 of the namespace. Without `container=` systemd would set the host's clock and sysctls. */
const INNER = `#!/bin/sh
set -e
mount --make-rprivate /
umount -lR /sys/fs/cgroup
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
if [ -n "$OVER_USR" ]; then mount -t overlay -o lowerdir="$OVER_USR":/usr overlay /usr; fi
if [ -e /etc/machine-id ]; then cp /etc/machine-id /run/machine-id; mount --bind /run/machine-id /etc/machine-id; fi
mkdir -p /run/systemd /run/lock /run/box
mount --bind "$BOX" /run/box
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=box SYSTEMD_UNIT_PATH=/run/box/units \\
  SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent \\
  /lib/systemd/systemd --system --unit=default.target --show-status=0 --log-target=null
`

let count = 0
