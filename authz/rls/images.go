package rls

// findKnown finds the images that can be judged. One that lacks a value cannot: a policy would
// take it for NULL (R21). Generated columns are computed.
func (j *judgement) findKnown() {
	for i := range j.q.Images {
		if j.complete(i) {
			j.known = append(j.known, i)
		}
	}
}

func (j *judgement) complete(i int) bool {
	columns := j.q.Table.Columns
	if len(j.q.Images[i]) != len(columns) {
		return false
	}
	for k, v := range j.q.Images[i] {
		if !v.Known() && columns[k].Def.Generated == 0 {
			return false
		}
	}
	return true
}

// pack packs the images to send.
func (j *judgement) pack(images []int) []chunk {
	var chunks []chunk
	var c chunk
	var records [][]byte
	size := 0
	end := func() {
		if len(c.images) > 0 {
			c.param = textArray(records)
			chunks = append(chunks, c)
		}
		c, records, size = chunk{}, nil, 0
	}
	for _, i := range images {
		record := j.record(i)
		if len(c.images) == chunkImages || size+len(record) > chunkBytes {
			end()
		}
		c.images = append(c.images, i)
		records = append(records, record)
		size += len(record)
	}
	end()
	return chunks
}

func (j *judgement) record(i int) []byte {
	record, ok := j.records[i]
	if !ok {
		if j.records == nil {
			j.records = map[int][]byte{}
		}
		image := j.q.Images[i]
		record = appendRecord(make([]byte, 0, 2*image.Size()/3+16), image)
		j.records[i] = record
	}
	return record
}
