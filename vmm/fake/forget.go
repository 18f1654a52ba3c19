package fake

// Awaited is closed once the host waits for the end of a process that runs.
func (m *Machine) Awaited(id string) <-chan struct{} { return m.guest.process(id).awaited }

// Forget makes the guest forget a process that has ended, as one does that has
// had more of them than it keeps; false if it has none that has ended.
func (m *Machine) Forget(id string) bool {
	m.guest.mu.Lock()
	defer m.guest.mu.Unlock()
	p := m.guest.processes[id]
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		delete(m.guest.processes, id)
		return true
	default:
		return false
	}
}
