-- Health of Sluice's objects for Argo CD: StreamingDeployment, SessionCluster, Savepoint.
-- Install: kubectl -n argocd patch configmap argocd-cm --patch-file manifests/argocd/argocd-cm.yaml
-- Argo CD gives the object as `obj` and takes {status, message}. Only what the operator has written about the current spec counts.

local function health(status, message)
  return { status = status, message = message or "" }
end

local metadata, status = obj.metadata or {}, obj.status or {}

local function condition(kind)
  for _, c in ipairs(status.conditions or {}) do
    if c.type == kind then
      return c
    end
  end
  return { status = "Unknown", reason = "", message = "" }
end

local function says(c)
  local reason, message = c.reason or "", c.message or ""
  if message == "" then
    return reason
  end
  return reason .. ": " .. message
end

if metadata.deletionTimestamp ~= nil then
  return health("Progressing", "is being deleted")
end

if obj.kind == "Savepoint" then
  if condition("Complete").status == "True" then
    return health("Healthy", status.path)
  elseif condition("Failed").status == "True" or status.phase == "Abandoned" then
    return health("Degraded", status.message or status.phase)
  end
  return health("Progressing", status.message or status.phase or "waits for the operator")
end

if (metadata.annotations or {})["sluice.dev/reconcile"] == "paused" then
  return health("Suspended", "the operator leaves it alone: annotation sluice.dev/reconcile")
end
-- A status of an older spec says nothing of this one.
if status.observedGeneration == nil or (metadata.generation ~= nil and status.observedGeneration < metadata.generation) then
  return health("Progressing", "waits for the operator")
end

local stalled, reconciling, ready = condition("Stalled"), condition("Reconciling"), condition("Ready")
if stalled.status == "True" then
  return health("Degraded", says(stalled))
elseif reconciling.status == "True" then
  return health("Progressing", says(reconciling))
elseif ready.status == "True" then
  if ready.reason == "Suspended" then
    return health("Suspended", says(ready))
  elseif condition("CheckpointHealthy").status == "False" then
    return health("Degraded", says(condition("CheckpointHealthy")))
  end
  return health("Healthy", says(ready))
elseif ready.reason == "Failed" or ready.reason == "Restarting" or ready.reason == "RolledBack" then
  return health("Degraded", says(ready))
end
return health("Progressing", says(ready))
