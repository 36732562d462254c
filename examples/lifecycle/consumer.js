import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** Does the jobs in a folder, one after the other, until another process does. The one that it has begun it brings to its end. */
export async function consumeJobs(folder, retiring) {
  while (!retiring.aborted) {
    const [job] = (await readdir(folder)).filter((name) => name.endsWith('.job')).sort()
    if (job) await doJob(join(folder, job))
    else await delay(20, undefined, { signal: retiring }).catch(() => {}) // retired
  }
}

/** The rename is what makes it ours: a process before this one may still be at its last job. */
async function doJob(path) {
  const taken = path.replace(/\.job$/, `.taken-by-${process.pid}`)
  try {
    await rename(path, taken)
  } catch (error) {
    if (error.code === 'ENOENT') return
    throw error
  }
  const result = (await readFile(taken, 'utf8')).toUpperCase()
  await writeFile(path.replace(/\.job$/, '.done'), `${result}\n`, { flag: 'a' })
}
