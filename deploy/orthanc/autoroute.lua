-- Sends the MR series of a study to the Quarterdose node once the study is stable (no new instance for StableAge seconds).
--
-- It never loops: a series that Quarterdose made carries its name as Manufacturer and is left alone.
-- It sends each instance once: an instance that the node took gets the metadata "RoutedToQuarterdose", so a study that
-- becomes stable again sends only what is new. What the node did not take is sent again when any study becomes stable,
-- or by hand: POST /jobs/{id}/resubmit.

local NODE = 'QUARTERDOSE'            -- the key in DicomModalities
local PRODUCT = 'Quarterdose'         -- Manufacturer (0008,0070) of its series
local METADATA = 'RoutedToQuarterdose' -- registered under UserMetadata

local underway = {}  -- job -> the instances it sends
local busy = {}      -- instance -> true while a job sends it
local failed = {}    -- study -> true after a job of it failed
local studyOf = {}   -- job -> study

local function isRouted(instance)
   for _, name in ipairs(ParseJson(RestApiGet('/instances/' .. instance .. '/metadata'))) do
      if name == METADATA then
         return true
      end
   end
   return false
end

local function isWanted(series)
   local tags = series['MainDicomTags']
   return tags['Modality'] == 'MR' and tags['Manufacturer'] ~= PRODUCT
end

local function route(study)
   failed[study] = nil
   local waiting = {}
   for _, series in ipairs(ParseJson(RestApiGet('/studies/' .. study .. '/series'))) do
      if isWanted(series) then
         for _, instance in ipairs(series['Instances']) do
            if not busy[instance] and not isRouted(instance) then
               table.insert(waiting, instance)
            end
         end
      end
   end
   if #waiting == 0 then
      return
   end
   local answer = RestApiPost('/modalities/' .. NODE .. '/store',
                              DumpJson({ Resources = waiting, Asynchronous = true }, true))
   local job = ParseJson(answer)['ID']
   underway[job] = waiting
   studyOf[job] = study
   for _, instance in ipairs(waiting) do
      busy[instance] = true
   end
   print('Sending ' .. #waiting .. ' instances of study ' .. study .. ' to ' .. NODE .. ' in job ' .. job)
end

local function finish(job)
   for _, instance in ipairs(underway[job]) do
      busy[instance] = nil
   end
end

function OnStableStudy(study, tags, metadata)
   route(study)
   for other, _ in pairs(failed) do
      route(other)
   end
end

function OnJobSuccess(job)
   if underway[job] then
      finish(job)
      for _, instance in ipairs(underway[job]) do
         RestApiPut('/instances/' .. instance .. '/metadata/' .. METADATA, NODE)
      end
      failed[studyOf[job]] = nil
      underway[job] = nil
      studyOf[job] = nil
   end
end

function OnJobFailure(job)
   if underway[job] then
      -- The job is remembered: it may be resubmitted by hand and then succeed.
      finish(job)
      failed[studyOf[job]] = true
      print('Job ' .. job .. ' failed: study ' .. studyOf[job] .. ' is not at ' .. NODE .. ' yet')
   end
end
