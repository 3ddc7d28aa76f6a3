/// Max pooling over planes of `height × width`, however many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaxPooling {
    pub(crate) size: [usize; 2],
    pub(crate) out_size: [usize; 2],
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl MaxPooling {
    /// The greatest value of each window.
    pub(crate) fn forward(&self, input: &[f32]) -> Vec<f32> {
        let [height, width] = self.size;
        let [out_height, out_width] = self.out_size;
        let planes = input.len() / (height * width);
        let mut output = vec![f32::NEG_INFINITY; planes * out_height * out_width];
        for (input, output) in input.chunks_exact(height * width).zip(output.chunks_exact_mut(out_height * out_width)) {
            for (y, to) in output.chunks_exact_mut(out_width).enumerate() {
                if self.is_halving() {
                    let (above, below) = input[2 * y * width..].split_at(width);
                    let pairs = above.as_chunks::<2>().0.iter().zip(below.as_chunks::<2>().0);
                    for (to, ([a, b], [c, d])) in to.iter_mut().zip(pairs) {
                        *to = greater(greater(*a, *b), greater(*c, *d));
                    }
                    continue;
                }
                for (x, to) in to.iter_mut().enumerate() {
                    self.window(y, x, |index| *to = greater(*to, input[index]));
                }
            }
        }
        output
    }

    /// The gradient of the input: each window's goes to its first greatest value.
    pub(crate) fn backward(&self, input: &[f32], output: &[f32], gradient: &[f32]) -> Vec<f32> {
        let [height, width] = self.size;
        let plane = self.out_size[0] * self.out_size[1];
        let mut result = vec![0.0; input.len()];
        let planes = input.chunks_exact(height * width).zip(result.chunks_exact_mut(height * width));
        let outputs = output.chunks_exact(plane).zip(gradient.chunks_exact(plane));
        for ((input, result), (output, gradient)) in planes.zip(outputs) {
            let rows = output.chunks_exact(self.out_size[1]).zip(gradient.chunks_exact(self.out_size[1]));
            for (y, (output, gradient)) in rows.enumerate() {
                if self.is_halving() {
                    let (above, below) = input[2 * y * width..].split_at(width);
                    let (to_above, to_below) = result[2 * y * width..].split_at_mut(width);
                    let from = above.as_chunks::<2>().0.iter().zip(below.as_chunks::<2>().0);
                    let to = to_above.as_chunks_mut::<2>().0.iter_mut().zip(to_below.as_chunks_mut::<2>().0);
                    for (((from_above, from_below), (to_above, to_below)), (greatest, gradient)) in
                        from.zip(to).zip(output.iter().zip(gradient))
                    {
                        // Arithmetic instead of branches: which value wins can't be predicted.
                        let [a, b, c, d] = [from_above[0], from_above[1], from_below[0], from_below[1]].map(|v| v == *greatest);
                        let share = |wins: bool| if wins { *gradient } else { 0.0 };
                        *to_above = [share(a), share(b & !a)];
                        *to_below = [share(c & !a & !b), share(d & !a & !b & !c)];
                    }
                    continue;
                }
                for (x, (greatest, gradient)) in output.iter().zip(gradient).enumerate() {
                    let mut winner = None;
                    self.window(y, x, |index| {
                        if winner.is_none() && input[index] == *greatest {
                            winner = Some(index);
                        }
                    });
                    if let Some(index) = winner {
                        result[index] += gradient;
                    }
                }
            }
        }
        result
    }

    /// Windows of 2 × 2 that don't overlap and touch no padding: nearly every pooling there is.
    fn is_halving(&self) -> bool {
        self.kernel == 2 && self.stride == 2 && self.padding == 0
    }

    /// Visits a window's positions in the plane, row by row, without the padding.
    fn window(&self, y: usize, x: usize, mut visit: impl FnMut(usize)) {
        let [height, width] = self.size;
        for row in (y * self.stride..y * self.stride + self.kernel).filter_map(|row| row.checked_sub(self.padding)) {
            for column in (x * self.stride..x * self.stride + self.kernel).filter_map(|column| column.checked_sub(self.padding)) {
                if row < height && column < width {
                    visit(row * width + column);
                }
            }
        }
    }
}

/// The greater of two numbers; the second where one is no number, so that it vectorises (a loss would show it anyway).
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData, module::max_pool2d, ops::MaxPoolOptions};

    use super::*;
    use crate::network::to_vec;

    #[test]
    fn pooling_agrees_with_burns_own_forward_and_backward() {
        for (size, kernel, stride, padding) in
            [([8, 6], 2, 2, 0), ([7, 9], 2, 2, 0), ([7, 8], 3, 2, 1), ([6, 6], 3, 1, 0), ([5, 5], 4, 3, 2)]
        {
            let out_size = size.map(|side: usize| (side + 2 * padding - kernel) / stride + 1);
            let pool = MaxPooling { size, out_size, kernel, stride, padding };
            // All values differ, so that both pick the same one.
            let input: Vec<f32> = (0..3 * 2 * size[0] * size[1]).map(|i| ((i * 7919) % 100_003) as f32 - 5e4).collect();
            let gradient: Vec<f32> = (0..6 * out_size[0] * out_size[1]).map(|i| i as f32 * 0.5 - 3.0).collect();
            let device = Device::flex().autodiff();
            let x = Tensor::<4>::from_data(TensorData::new(input.clone(), [3, 2, size[0], size[1]]), &device).require_grad();
            let options = MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]);
            let y = max_pool2d(x.clone(), options);
            let g = TensorData::new(gradient.clone(), [3, 2, out_size[0], out_size[1]]);
            let mut gradients = (y.clone() * Tensor::from_data(g, &device)).sum().backward();
            let ours = pool.forward(&input);
            assert_eq!(ours, to_vec(y));
            assert_eq!(pool.backward(&input, &ours, &gradient), to_vec(x.grad_remove(&mut gradients).unwrap()));
        }
    }
}
